"""The process in which grammars are compiled first: it may run out of time or memory, or crash.

Started as a plain file with nothing of ours imported. A line of JSON in: {"sources": [...],
"seconds": n}; a line out: {"error": null or a text, "index": of the first source with one,
"warnings": what is passed over in the others}.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

EXTRA_BYTES = 256 << 20  # of address space, beyond what the process begins with


# A state of a grammar's lexer takes one or two kB, and all copies of a grammar share them.
MAX_LEXER_STATES = 50_000
MAX_WARNINGS = 200


def limits() -> LLParserLimits:
    """Of every grammar, here and where it is followed; what is beyond them is an error."""
    return LLParserLimits(verbose_errors=False, max_lexer_states=MAX_LEXER_STATES)


class _Bytes:
    """A vocabulary of single bytes."""

    eos_token_id, bos_token_id = 256, None
    special_token_ids = (256,)

    def __init__(self) -> None:
        self.tokens = [*(bytes([i]) for i in range(256)), b"<eos>"]

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


def check(tokenizer: LLTokenizer, source: str, warnings: list[str]) -> str:
    """What is wrong with a grammar; nothing if it can be followed, at least from its beginning.
    Adds to ``warnings`` what is passed over in it."""
    is_wrong, messages = LLMatcher.validate_grammar_with_warnings(source, None, limits=limits())
    if is_wrong:
        return "\n".join(messages)
    warnings += [message[:200] for message in messages[: MAX_WARNINGS - len(warnings)]]
    matcher = LLMatcher(tokenizer, source, log_level=0, limits=limits())
    if matcher.is_error():
        return ""  # special tokens, which only a model's own vocabulary has
    is_complete = matcher.is_accepting()
    matcher.compute_bitmask()
    if matcher.is_error():
        return str(matcher.get_error()).split("\n<state>")[0]
    return "" if is_complete or not matcher.is_stopped() else "Unsatisfiable"


def answer(tokenizer: LLTokenizer, task: dict[str, Any]) -> dict[str, Any]:
    """The first fault among a task's sources."""
    warnings: list[str] = []
    for index, source in enumerate(task["sources"]):
        error = check(tokenizer, source, warnings)
        if error:
            return {"error": error[:2000], "index": index, "warnings": []}
    return {"error": None, "index": -1, "warnings": warnings}


def main() -> None:
    """Until the pipe closes."""
    with open("/proc/self/statm", "rb") as file:
        n_bytes = int(file.read().split()[0]) * resource.getpagesize() + EXTRA_BYTES
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    tokenizer = LLTokenizer(TokenizerWrapper(_Bytes()))
    resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))
    for line in sys.stdin.buffer:
        task = json.loads(line)
        # Whoever started us may be gone by then.
        signal.setitimer(signal.ITIMER_REAL, task["seconds"] + 1.0)
        reply = answer(tokenizer, task)
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

"""docs/coming-from/llama-server.md from the table `serve` goes by:
python -m tools.llama_options_page"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from slotmux.server.commands.llama_options import MODEL, OPTIONS, VARIABLES, Option
from slotmux.server.settings import env_name, flag_name

PAGE = Path(__file__).parents[1] / "docs/coming-from/llama-server.md"

_HEAD = """# Coming from llama-server

Made by `python -m tools.llama_options_page` from `server/commands/llama_options.py`; a test says
when it is out of date.

`slotmux serve` takes llama-server's command line: flags that mean the same have the same name
(`slotmux serve --help`), the others are here. What changes nothing is said at the start; what
cannot be fulfilled ends it, with what to use instead.

One flag has another meaning: `--ctx-size` (`-c`) is the longest sequence of any slot here;
llama-server divides it among the slots. The cells of all slots together are `--kv-size`, which is
`--parallel` times `--ctx-size` if it is not given.
"""

# What is said here of an endpoint is held by tests/test_docs.py.
_ENDPOINTS = """## Endpoints

| llama-server | here | |
| --- | --- | --- |
| `GET /health` | works | 503 while loading, and when the engine is stuck |
| `GET /v1/health` | 404 | `/health` |
| `POST /completion` | works | and `/completions` |
| `POST /v1/completions` | works | |
| `POST /v1/chat/completions` | works | and `/chat/completions` |
| `POST /v1/responses` | works | |
| `POST /v1/messages` | works | and `/v1/messages/count_tokens` |
| `POST /chat/completions/input_tokens` | works | |
| `GET /v1/models` | works | and `/models` |
| `POST /tokenize` | works | |
| `POST /detokenize` | works | |
| `POST /apply-template` | works | |
| `POST /infill` | works | 501 for a model without tokens for it |
| `GET /slots` | works | without `--slots` |
| `POST /slots/0?action=save` | 501 | works with `--slot-save-path` |
| `GET /metrics` | works | without `--metrics` |
| `GET /props` | works | |
| `POST /props` | 501 | what a server is was decided at its start |
| `GET /lora-adapters` | works | none |
| `POST /lora-adapters` | 501 | adapters are not supported |
| `POST /embedding` | works | and `/embeddings`, `/v1/embeddings`: [embeddings](../embeddings.md) |
| `POST /reranking` | works | scores are 0 to 1; llama-server's with `raw_scores` |
| `POST /v1/audio/transcriptions` | 501 | |

[Dialects](../dialects.md#llama-server) tells what their parameters and answers have, and what they
lack.

## Commands

| llama.cpp | slotmux |
| --- | --- |
| `llama-server` | `slotmux serve` |
| `llama-cli` | `slotmux chat MODEL` |
| `llama-bench` | `slotmux bench` |
| `llama-perplexity` | `slotmux perplexity` |
| `llama-tokenize` | `slotmux tokenize` |
| `llama-gguf` | `slotmux inspect` |
"""


def page() -> str:
    """The whole page, in Markdown."""
    options = list(dict.fromkeys(OPTIONS.values()))
    return "\n".join([_HEAD, *_renamed(options), *_rule(options, "needless", "Changes nothing"),
                      *_rule(options, "refused", "Use something else"), _ENDPOINTS,
                      *_variables()])  # fmt: skip


def _renamed(options: list[Option]) -> Iterator[str]:
    yield "## Works under another name\n\n| llama-server | slotmux |\n| --- | --- |"
    for option in options:
        if option.rule == "renamed":
            words = " ".join(option.becomes[-1 if option.becomes[0] == MODEL else 0 :])
            yield f"| {_names(option)} | `{words.replace('{}', 'VALUE')}` |"
    yield ""


def _rule(options: list[Option], rule: str, title: str) -> Iterator[str]:
    yield f"## {title}\n\n| llama-server | why, or what to use |\n| --- | --- |"
    by_text: dict[str, list[Option]] = {}
    for option in options:
        if option.rule == rule:
            by_text.setdefault(option.text, []).append(option)
    for text, group in by_text.items():
        yield f"| {', '.join(map(_names, group))} | {text} |"
    yield ""


def _variables() -> Iterator[str]:
    yield "## Variables\n"
    yield "Those of llama-server are not read; the start tells of each that is set.\n"
    yield "| llama-server | slotmux |\n| --- | --- |"
    for name, field in VARIABLES.items():
        yield f"| `{name}` | `{env_name(flag_name(field))}` |"
    yield ""


def _names(option: Option) -> str:
    return " ".join(f"`{name}`" for name in option.names)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")

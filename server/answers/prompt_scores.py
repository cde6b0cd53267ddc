"""Log-probabilities of prompts as clients get them: echoed before a completion, or vLLM's list."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from slotmux.runtime.prompt_logprobs import PromptLogprobs
from slotmux.server.answers.generation import ChoiceOutput
from slotmux.server.answers.logprobs import LOWEST, shown
from slotmux.server.interfaces import TokenizerPort


@dataclass(slots=True)
class PromptScores:
    """How the prompts of one HTTP request are told. Used by one thread at a time.

    ``n_echoed`` and ``n_told``: alternatives in the ``logprobs`` of an echoed prompt and in
    ``prompt_logprobs``; -1 = it is not asked for.
    """

    tokenizer: TokenizerPort
    prompts: Sequence[Sequence[int]]
    echoes: Sequence[str] = ()
    n_echoed: int = -1
    n_told: int = -1
    _texts: dict[int, str] = field(default_factory=dict)

    @property
    def are_echoed(self) -> bool:
        """Whether prompts are echoed with log-probabilities."""
        return self.n_echoed >= 0

    @property
    def are_told(self) -> bool:
        """Whether vLLM's list is wanted."""
        return self.n_told >= 0

    def echoed(self, prompt: int, found: PromptLogprobs) -> dict[str, list[Any] | None]:
        """OpenAI's four arrays. The first token has null: nothing stands before it."""
        ids = self.prompts[prompt]
        values = [None, *(max(value, LOWEST) for value in found.logprobs.tolist())]
        top: list[dict[str, float] | None] | None = None
        if self.n_echoed > 0:
            top = [None, *(self._top(ids[i], found, i - 1) for i in range(1, len(ids)))]
        return {
            "tokens": [self._text(token_id) for token_id in ids],
            "token_logprobs": values,
            "top_logprobs": top,
            "text_offset": self._offsets(ids, self.echoes[prompt]),
        }

    def told(self, prompt: int, found: PromptLogprobs) -> list[dict[str, Any] | None]:
        """vLLM's ``prompt_logprobs``: for each token, by id, itself and the likeliest ones."""
        ids = self.prompts[prompt]
        return [None, *(self._entries(ids[i], found, i - 1) for i in range(1, len(ids)))]

    def _entries(self, token_id: int, found: PromptLogprobs, row: int) -> dict[str, Any]:
        own = (token_id, found.logprobs.item(row), found.ranks.item(row))
        ids = found.top_ids[row, : self.n_told].tolist()
        values = found.top_logprobs[row, : self.n_told].tolist()
        others = zip(ids, values, range(1, 1 + len(ids)), strict=True)
        told: dict[str, Any] = {}
        for other, value, rank in (own, *others):
            if other >= 0:
                told.setdefault(
                    str(other),
                    {
                        "logprob": max(value, LOWEST),
                        "rank": rank,
                        "decoded_token": self._decoded(other),
                    },
                )
        return told

    def _top(self, token_id: int, found: PromptLogprobs, row: int) -> dict[str, float]:
        """The likeliest tokens and the prompt's own; of those that look alike the likelier one."""
        told: dict[str, float] = {}
        ids = found.top_ids[row, : self.n_echoed].tolist()
        values = found.top_logprobs[row, : self.n_echoed].tolist()
        for other, value in (*zip(ids, values, strict=True), (token_id, found.logprobs.item(row))):
            if other >= 0:
                told.setdefault(self._text(other), max(value, LOWEST))
        return told

    def _offsets(self, ids: Sequence[int], echo: str) -> list[int]:
        """Where each token begins in the echo. What a tokenizer puts before a text (a first token,
        a space) is not in it."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        offsets, n_chars = [], 0
        for token_id in ids:
            offsets.append(n_chars)
            n_chars += len(decoder.decode(self.tokenizer.token_bytes(token_id)))
        n_before = max(0, len(self.tokenizer.decode(ids, skip_special=False)) - len(echo))
        return [max(0, offset - n_before) for offset in offsets]

    def _decoded(self, token_id: int) -> str:
        return self.tokenizer.token_bytes(token_id).decode("utf-8", "replace")

    def _text(self, token_id: int) -> str:
        text = self._texts.get(token_id)
        if text is None:
            text = self._texts[token_id] = shown(self.tokenizer, token_id)
        return text


class ScoresFirst:
    """Puts the Output with a prompt's log-probabilities before all others of its ``n`` choices: a
    choice may be ahead of the first one, which had to leave its slot."""

    __slots__ = ("_held", "_n", "_ready")

    def __init__(self, n: int) -> None:
        self._n = n
        self._held: dict[int, list[ChoiceOutput]] = {}  # by prompt
        self._ready: set[int] = set()

    def order(self, choices: list[ChoiceOutput]) -> list[ChoiceOutput]:
        """What may be told now. A first choice that ends without them has nothing to wait for."""
        out: list[ChoiceOutput] = []
        for index, output in choices:
            prompt, k = divmod(index, self._n)
            is_end = k == 0 and output.finish_reason is not None
            if prompt not in self._ready and (output.prompt_logprobs is not None or is_end):
                self._ready.add(prompt)
                out += [(index, output), *self._held.pop(prompt, [])]
            elif prompt in self._ready:
                out.append((index, output))
            else:
                self._held.setdefault(prompt, []).append((index, output))
        return out

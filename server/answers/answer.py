"""How the two completion endpoints word their answers; the rest of the server does not care."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from slotmux.runtime.engine.request import FinishReason, Output
from slotmux.server.answers.generation import Generation
from slotmux.server.answers.logprobs import LogprobsFormat
from slotmux.server.answers.usage import timings_object, usage_object

Kind = Literal["chat", "completion"]
FINGERPRINT = "slotmux"


@dataclass(slots=True)
class Answer:
    """Everything about one HTTP request's answer that does not change while it is generated."""

    kind: Kind
    model: str
    new_logprobs: Callable[[], LogprobsFormat] | None  # makes one per choice; None = not asked for
    prompts: list[list[int]]  # token ids; given back with return_token_ids
    n: int = 1
    echoes: list[str] | None = None  # text of each prompt, to be put before its choices
    with_token_ids: bool = False
    with_usage_chunk: bool = False
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        prefix = "chatcmpl" if self.kind == "chat" else "cmpl"
        self.id = f"{prefix}-{uuid.uuid4().hex}"

    @property
    def n_choices(self) -> int:
        """Choices of all prompts."""
        return self.n * len(self.prompts)

    def echo_of(self, index: int) -> str:
        """The echoed prompt of choice ``index``, '' if none is wanted."""
        return "" if self.echoes is None else self.echoes[index // self.n]

    def head(self, *, is_chunk: bool) -> dict[str, Any]:
        """The fields before ``choices``."""
        if self.kind == "chat":
            kind = "chat.completion.chunk" if is_chunk else "chat.completion"
        else:
            kind = "text_completion"
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }


def finish_text(reason: FinishReason) -> str:
    """OpenAI's word for why a choice ended."""
    return "length" if reason is FinishReason.LENGTH else "stop"


def whole_answer(
    answer: Answer, generation: Generation, outputs: list[list[Output]]
) -> dict[str, Any]:
    """The body of an answer that is not streamed; ``outputs`` are those of each choice."""
    body = answer.head(is_chunk=False)
    body["choices"] = [
        _choice(answer, index, generation.finishes[index], outputs[index])
        for index in range(answer.n_choices)
    ]
    if answer.with_token_ids and answer.kind == "chat":
        body["prompt_token_ids"] = answer.prompts[0]
    body["usage"] = usage_object(generation)
    body["timings"] = timings_object(generation)
    return body


def _choice(
    answer: Answer, index: int, reason: FinishReason, outputs: list[Output]
) -> dict[str, Any]:
    text = answer.echo_of(index) + "".join(output.text for output in outputs)
    choice: dict[str, Any] = {"index": index}
    if answer.kind == "chat":
        choice["message"] = {"role": "assistant", "content": text, "refusal": None}
    else:
        choice["text"] = text
    choice["logprobs"] = None
    if answer.new_logprobs is not None:
        entries = [entry for output in outputs for entry in output.logprobs]
        choice["logprobs"] = answer.new_logprobs().format(entries)
    choice["finish_reason"] = finish_text(reason)
    if answer.with_token_ids:
        choice["token_ids"] = [i for output in outputs for i in output.token_ids]
        if answer.kind == "completion":
            choice["prompt_token_ids"] = answer.prompts[index // answer.n]
    return choice

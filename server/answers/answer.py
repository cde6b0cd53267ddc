"""How OpenAI's two completion endpoints word their answers; no other dialect does."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from slotmux.runtime.engine.request import FinishReason, Output
from slotmux.server.answers.delta import NewReader, PlainReader, Reader, Said, read_all
from slotmux.server.answers.generation import Generation
from slotmux.server.answers.logprobs import LogprobsFormat
from slotmux.server.answers.prompt_scores import PromptScores
from slotmux.server.answers.usage import timings_object, usage_object

Kind = Literal["chat", "completion"]
FINGERPRINT = "slotmux"
# The same text under the name of DeepSeek and llama-server, and that of vLLM and OpenRouter.
REASONING_FIELDS = ("reasoning_content", "reasoning")


@dataclass(slots=True)
class Answer:
    """Everything about one HTTP request's answer that does not change while it is generated."""

    kind: Kind
    model: str
    new_logprobs: Callable[[], LogprobsFormat] | None  # makes one per choice; None = not asked for
    prompts: list[list[int]]  # token ids; given back with return_token_ids
    n: int = 1
    echoes: list[str] | None = None  # text of each prompt, to be put before its choices
    scores: PromptScores | None = None  # how log-probabilities of prompts are told, if they are
    has_continuous_usage: bool = False  # every chunk tells the usage so far
    with_token_ids: bool = False
    with_usage_chunk: bool = False
    new_reader: NewReader | None = None  # makes one per choice; None = all text is content
    as_function_call: bool = False  # calls are told as they were before there were tools
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


def finish_word(answer: Answer, word: str) -> str:
    """A reader's word for the end as ``answer`` tells it."""
    return "function_call" if answer.as_function_call and word == "tool_calls" else word


def whole_answer(
    answer: Answer,
    generation: Generation,
    outputs: list[list[Output]],
    picked: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The body of an answer that is not streamed; ``outputs`` are those of each choice that was
    generated, ``picked`` the ones to tell (default: all), in order."""
    body = answer.head(is_chunk=False)
    make = answer.new_reader or PlainReader
    readers = [make() for _ in range(answer.n_choices)]
    sources = range(answer.n_choices) if picked is None else picked
    body["choices"] = [
        _choice(answer, index, readers[index], generation.finishes[source], outputs[source])
        for index, source in enumerate(sources)
    ]
    _add_scores(answer, generation, body)
    if answer.with_token_ids and answer.kind == "chat":
        body["prompt_token_ids"] = answer.prompts[0]
    n_reasoning = None if answer.new_reader is None else sum(r.n_reasoning for r in readers)
    body["usage"] = usage_object(generation, n_reasoning)
    body["timings"] = timings_object(generation)
    return body


def _add_scores(answer: Answer, generation: Generation, body: dict[str, Any]) -> None:
    """Puts what is known of the prompts' tokens where OpenAI and vLLM have it."""
    scores = answer.scores
    if scores is None:
        return
    for index, choice in enumerate(body["choices"]):
        found = generation.scores_of(index // answer.n)
        if found is None:  # the prompt was cut at --request-timeout
            continue
        if scores.are_echoed:
            echoed = scores.echoed(index // answer.n, found)
            choice["logprobs"] = {k: _joined(v, choice["logprobs"][k]) for k, v in echoed.items()}
        if scores.are_told and answer.kind == "completion":
            choice["prompt_logprobs"] = scores.told(index // answer.n, found)
    if scores.are_told and answer.kind == "chat" and (found := generation.scores_of(0)):
        body["prompt_logprobs"] = scores.told(0, found)


def _joined(first: list[Any] | None, second: list[Any] | None) -> list[Any] | None:
    return None if first is None or second is None else first + second


def _choice(
    answer: Answer, index: int, reader: Reader, reason: FinishReason, outputs: list[Output]
) -> dict[str, Any]:
    said, word = read_all(reader, outputs, reason)
    choice: dict[str, Any] = {"index": index}
    if answer.kind == "chat":
        choice["message"] = _message(answer, said)
    else:
        choice["text"] = answer.echo_of(index) + said.content
    choice["logprobs"] = None
    if answer.new_logprobs is not None:
        entries = [entry for output in outputs for entry in output.logprobs]
        told = answer.new_logprobs()
        told.begin_at(len(answer.echo_of(index)))
        choice["logprobs"] = told.format(entries)
    choice["finish_reason"] = finish_word(answer, word)
    if answer.with_token_ids:
        choice["token_ids"] = [i for output in outputs for i in output.token_ids]
        if answer.kind == "completion":
            choice["prompt_token_ids"] = answer.prompts[index // answer.n]
    return choice


def _message(answer: Answer, said: Said) -> dict[str, Any]:
    """OpenAI's message: no content beside calls is null."""
    message: dict[str, Any] = {"role": "assistant"}
    message["content"] = said.content or (None if said.calls else "")
    message["refusal"] = None
    if said.reasoning:
        message |= dict.fromkeys(REASONING_FIELDS, said.reasoning)
    if said.calls and answer.as_function_call:
        first = said.calls[0]
        message["function_call"] = {"name": first.name, "arguments": first.arguments}
    elif said.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in said.calls
        ]
    return message

"""What llama-server's own routes give."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from slotmux.server.openapi import answers


class NativeToken(TypedDict):
    """A token and its natural log-probability."""

    id: int
    token: str
    bytes: list[int]
    logprob: float


class NativeProbability(NativeToken):
    """A token that was drawn, with the likeliest ones at its place."""

    top_logprobs: list[NativeToken]


class NativePart(TypedDict, total=False):
    """The data of an event of a streamed answer; the last event's is the whole answer, without the
    text."""

    index: int
    content: str
    tokens: list[int]
    stop: bool
    id_slot: int
    tokens_predicted: int
    tokens_evaluated: int
    timings: answers.Timings
    completion_probabilities: list[NativeProbability]


class NativeAnswer(NativePart, total=False):
    """A whole answer, or what ``response_fields`` names of it."""

    model: str
    generation_settings: dict[str, Any]
    prompt: str
    has_new_line: bool
    truncated: bool
    stop_type: Literal["limit", "eos", "word"]
    stopping_word: str
    tokens_cached: int


class InputTokens(TypedDict):
    """How long a prompt is."""

    object: Literal["response.input_tokens"]
    input_tokens: int


class SlotAction(TypedDict, total=False):
    """What was done with a slot: tokens saved, restored or erased, and bytes."""

    id_slot: int
    filename: str
    n_saved: int
    n_written: int
    n_restored: int
    n_read: int
    n_erased: int
    timings: dict[str, float]

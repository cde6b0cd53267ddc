"""What llama-server's own routes take and give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from typing_extensions import TypedDict

from slotmux.server.dialects.llama.schema import InfillOptions, NativeOptions
from slotmux.server.dialects.llama.slots import SlotFileRequest
from slotmux.server.openapi import answers
from slotmux.server.openapi.operation import REFUSED, Body, Operation
from slotmux.server.schemas.chat import ChatRequest
from slotmux.server.schemas.completion import CompletionRequest


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


_ACTION = {"action": {"enum": ["save", "restore", "erase"]}}
_PART: dict[str, Any] = {"type": ["string", "integer"]}
_ONE_PROMPT = {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART, "minItems": 1}]}
_PROMPT = {
    "description": "A text, an array of token ids and texts, or an array of these.",
    "anyOf": [*_ONE_PROMPT["anyOf"], {"type": "object"}, {"type": "array", "minItems": 1}],
}
_NATIVE = Body(
    "NativeRequest",
    (CompletionRequest, NativeOptions),
    {"prompt": _PROMPT, "logprobs": {"enum": [None]}},
    ("prompt",),
)
_INFILL = Body(
    "InfillRequest",
    (CompletionRequest, NativeOptions, InfillOptions),
    {"prompt": {"type": ["string", "null"]}, "logprobs": {"enum": [None]}},
    ("input_prefix", "input_suffix"),
)
_COMPLETION = Operation(NativeAnswer | list[NativeAnswer], _NATIVE, NativeAnswer)
_COUNT = {"POST": Operation(InputTokens, ChatRequest)}

_NOT_SERVED = (
    *("/embedding", "/embeddings", "/v1/embeddings"),
    *("/rerank", "/reranking", "/v1/rerank", "/v1/reranking"),
    *("/v1/audio/transcriptions", "/v1/audio/translations", "/v1/audio/speech"),
)

LLAMA: Mapping[str, Mapping[str, Operation]] = {
    "/chat/completions": {
        "POST": Operation(answers.ChatCompletion, ChatRequest, answers.ChatChunk)
    },
    "/models": {"GET": Operation(answers.ModelList)},
    "/completion": {"POST": _COMPLETION},
    "/completions": {"POST": _COMPLETION},
    "/infill": {"POST": Operation(NativeAnswer, _INFILL, NativeAnswer)},
    "/chat/completions/input_tokens": _COUNT,
    "/v1/chat/completions/input_tokens": _COUNT,
    "/lora-adapters": {"GET": Operation(list[dict[str, Any]]), "POST": REFUSED},
    "/slots/{slot_id}": {
        "POST": Operation(SlotAction, SlotFileRequest, query=_ACTION, needs_body=False)
    },
    **{path: {"POST": REFUSED} for path in _NOT_SERVED},
}

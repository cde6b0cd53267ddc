"""What Ollama's routes give."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict


class OllamaFunction(TypedDict):
    """What is called, with what."""

    index: int
    name: str
    arguments: Any


class OllamaCall(TypedDict):
    """A call of a tool."""

    id: str
    function: OllamaFunction


class OllamaMessage(TypedDict):
    """What the assistant says."""

    role: Literal["assistant"]
    content: str
    thinking: NotRequired[str]
    tool_calls: NotRequired[list[OllamaCall]]


class OllamaLine(TypedDict):
    """A whole answer, or a line of a streamed one: the last has counts, and times in ns."""

    model: str
    created_at: str
    done: bool
    done_reason: NotRequired[Literal["stop", "length", "load", "unload"]]
    total_duration: NotRequired[int]
    load_duration: NotRequired[int]
    prompt_eval_count: NotRequired[int]
    prompt_eval_duration: NotRequired[int]
    eval_count: NotRequired[int]
    eval_duration: NotRequired[int]


class ChatLine(OllamaLine):
    """Of /api/chat."""

    message: OllamaMessage


class GenerateLine(OllamaLine):
    """Of /api/generate."""

    response: str
    thinking: NotRequired[str]


class OllamaDetails(TypedDict):
    """What a model is made of."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaModel(TypedDict):
    """The served model under one of its names."""

    name: str
    model: str
    size: int
    digest: str
    details: OllamaDetails
    modified_at: NotRequired[str]
    expires_at: NotRequired[str]
    size_vram: NotRequired[int]
    context_length: NotRequired[int]


class OllamaModels(TypedDict):
    """All of them."""

    models: list[OllamaModel]


class OllamaShow(TypedDict):
    """About one model."""

    modelfile: str
    parameters: str
    template: str
    details: OllamaDetails
    model_info: dict[str, str | int]
    capabilities: list[str]
    modified_at: str


class OllamaVersion(TypedDict):
    """The version of the API, and the server's."""

    version: str
    server: str

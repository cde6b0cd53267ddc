"""How each dialect tells what is wrong, as OpenAPI tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from typing_extensions import TypedDict

from slotmux.server.http.shapes import Shape, anthropic_body, llama_body, ollama_body, openai_body
from slotmux.server.openapi.operation import Type


class ErrorObject(TypedDict):
    """What is wrong, and with which parameter."""

    message: str
    type: str
    param: str | None
    code: str | int | None


class ErrorAnswer(TypedDict):
    """Every refusal and failure."""

    error: ErrorObject


class LlamaErrorObject(TypedDict):
    """What is wrong; the code is the status."""

    code: int
    message: str
    type: str


class LlamaError(TypedDict):
    """llama-server's."""

    error: LlamaErrorObject


class AnthropicErrorObject(TypedDict):
    """What is wrong."""

    type: str
    message: str


class AnthropicError(TypedDict):
    """Anthropic's."""

    type: Literal["error"]
    error: AnthropicErrorObject


class OllamaError(TypedDict):
    """Ollama's."""

    error: str


ERRORS: Mapping[Shape, Type] = {
    openai_body: ErrorAnswer,
    llama_body: LlamaError,
    anthropic_body: AnthropicError,
    ollama_body: OllamaError,
}

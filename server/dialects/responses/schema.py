"""The body of POST /v1/responses, and the older OpenAI body it becomes."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from slotmux.server.dialects.blocks import object_at, only, unsupported
from slotmux.server.dialects.chat_path import tool_names
from slotmux.server.dialects.responses.items import chat_messages
from slotmux.server.dialects.responses.tools import chat_tool_choice, chat_tools
from slotmux.server.schemas.base import StrictModel, fault
from slotmux.server.schemas.generation import Label
from slotmux.server.schemas.parameters import Place

# The older names of what is told by another one here.
NAMES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
    "reasoning_effort": "reasoning.effort",
}
_INCLUDABLE = ("reasoning.encrypted_content", "message.output_text.logprobs")


def _include(value: Any) -> Any:
    if isinstance(value, list):
        for name in value:
            if name == _INCLUDABLE[1]:
                raise fault("log-probabilities are not supported here")
    return value


def names_of(params: InputRequest) -> dict[str, str]:
    """NAMES and those of the tools' members. Raises ApiError 400."""
    return NAMES | tool_names(chat_tools(params.tools or [])[1].places, "parameters")


class InputRequest(StrictModel):
    """What a prompt is made of. Loosely typed members are checked where they are translated."""

    place: ClassVar[Place | None] = None
    model: Label | None = None
    input: Any = None
    instructions: str | None = None
    previous_response_id: Label | None = None
    tools: Any = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    reasoning: Any = None
    text: Any = None
    truncation: Literal["disabled", "auto"] | None = None

    def chat_body(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """As a body of /v1/chat/completions; ``items``: what came before and the input. Raises
        ApiError 400."""
        body: dict[str, Any] = {"messages": chat_messages(items, self.instructions)}
        if self.truncation == "auto":
            raise unsupported("truncation", "a prompt is never cut")
        body["model"] = self.model
        tools, _ = chat_tools(self.tools or [])
        choice = chat_tool_choice(self.tool_choice)
        if tools:
            body |= {"tools": tools, "tool_choice": choice}
            body["parallel_tool_calls"] = self.parallel_tool_calls
        body |= _reasoning(self.reasoning) | _text(self.text)
        return {name: value for name, value in body.items() if value is not None}


class ResponsesRequest(InputRequest):
    """All of it."""

    max_output_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    stream: bool | None = None
    store: bool | None = None  # null: yes
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    metadata: Any = None
    background: bool | None = None
    top_logprobs: Literal[0] | None = None
    include: Annotated[list[Label] | None, Field(max_length=16), BeforeValidator(_include)] = None
    stream_options: dict[str, bool] | None = None
    # Advice: calls are made by the client, there is one tier, and prefixes are kept anyway.
    max_tool_calls: int | None = None
    service_tier: Label | None = None
    prompt_cache_retention: Label | None = None
    client_metadata: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _is_found_again(self) -> Self:
        if self.background and not self.is_stored:
            raise fault("what runs in the background has to be stored", "store")
        return self

    @property
    def is_stored(self) -> bool:
        """Whether the response can be asked for again."""
        return self.store is not False

    def chat_body(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """The same with sampling and what a client tells of itself."""
        body = super().chat_body(items)
        body["max_completion_tokens"] = self.max_output_tokens
        same = "temperature top_p user safety_identifier prompt_cache_key metadata"
        body |= {name: getattr(self, name) for name in same.split()}
        return {name: value for name, value in body.items() if value is not None}


def _reasoning(value: Any) -> dict[str, Any]:
    """How hard to think. A summary is asked for in vain: thoughts are told as they are."""
    if value is None:
        return {}
    known = ("effort", "summary", "generate_summary", "context")
    only(object_at(value, "reasoning"), known, "reasoning")
    return {"reasoning_effort": value.get("effort")}


def _text(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    only(object_at(value, "text"), ("format", "verbosity"), "text")
    told: dict[str, Any] = {"verbosity": value.get("verbosity")}
    form = value.get("format")
    if form is None:
        return told
    if object_at(form, "text.format").get("type") == "json_schema":
        known = ("type", "name", "description", "schema", "strict")
        only(form, known, "text.format")
        schema = {name: form[name] for name in known[1:] if form.get(name) is not None}
        told["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif form != {"type": "text"}:
        told["response_format"] = form
    return told

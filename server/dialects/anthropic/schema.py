"""The body of POST /v1/messages and /v1/messages/count_tokens, and the OpenAI body it becomes."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from slotmux.server.dialects.anthropic.messages import chat_messages
from slotmux.server.dialects.anthropic.tools import chat_tool_choice, chat_tools
from slotmux.server.dialects.blocks import object_at, only, unsupported, wrong_type
from slotmux.server.dialects.chat_path import tool_names
from slotmux.server.schemas.base import StrictModel
from slotmux.server.schemas.generation import Label
from slotmux.server.schemas.parameters import Place

# OpenAI's names of what is told by another one here.
NAMES = {
    "stop": "stop_sequences",
    "max_completion_tokens": "max_tokens",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "response_format": "output_config.format",
    "reasoning_effort": "output_config.effort",
    "user": "metadata.user_id",
}


def names_of(params: CountRequest) -> dict[str, str]:
    """NAMES and those of the tools' members; after ``chat_body``."""
    places = [f"tools[{index}]" for index in range(len(params.tools or ()))]
    return NAMES | tool_names(places, "input_schema")


class CountRequest(StrictModel):
    """What a prompt is made of. Loosely typed members are checked where they are translated."""

    place: ClassVar[Place | None] = None
    model: Label
    messages: Any
    system: Any = None
    tools: Any = None
    tool_choice: Any = None
    thinking: Any = None
    output_config: Any = None
    # Advice. What is kept of a prefix is decided by memory, not by marks; what a client would
    # have edited out of its own history stays.
    cache_control: dict[str, Any] | None = None
    context_management: dict[str, Any] | None = None


class MessagesRequest(CountRequest):
    """All of it."""

    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)]
    stop_sequences: Any = None
    stream: bool | None = None
    temperature: Any = None
    top_p: Any = None
    top_k: Any = None
    metadata: Any = None
    service_tier: Label | None = None  # advice: there is one tier
    inference_geo: Label | None = None
    diagnostics: dict[str, Any] | None = None
    speed: Label | None = None  # advice: there is one speed

    @property
    def hides_thoughts(self) -> bool:
        """Whether the client wants none of the thoughts told."""
        return isinstance(self.thinking, dict) and self.thinking.get("display") == "omitted"


def chat_body(params: CountRequest) -> dict[str, Any]:
    """OpenAI's words for it. Raises ApiError 400 that names what cannot be told."""
    body: dict[str, Any] = {"model": params.model}
    body["messages"] = chat_messages(params.messages, params.system)
    if params.tools:
        body["tools"] = chat_tools(params.tools)
        body |= chat_tool_choice(params.tool_choice)
    elif params.tool_choice is not None:
        chat_tool_choice(params.tool_choice)
    body |= _thinking(params.thinking) | _output(params.output_config)
    if isinstance(params, MessagesRequest):
        body["max_tokens"] = params.max_tokens
        body["stop"] = params.stop_sequences or None
        for name in ("temperature", "top_p", "top_k"):
            body[name] = getattr(params, name)
        body["user"] = _user(params.metadata)
    return {name: value for name, value in body.items() if value is not None}


def _user(metadata: Any) -> Any:
    if metadata is None:
        return None
    only(object_at(metadata, "metadata"), ("user_id",), "metadata")
    return metadata.get("user_id")


def _thinking(value: Any) -> dict[str, Any]:
    """``enabled`` has a budget in tokens, ``adaptive`` leaves it to the model."""
    if value is None:
        return {}
    only(object_at(value, "thinking"), ("type", "budget_tokens", "display"), "thinking")
    kind = value.get("type")
    if value.get("display") not in (None, "summarized", "updates", "omitted"):
        raise wrong_type("thinking.display", "'summarized', 'updates' or 'omitted'")
    if kind not in ("enabled", "adaptive", "disabled"):
        raise wrong_type("thinking.type", "'enabled', 'adaptive' or 'disabled'")
    budget = value.get("budget_tokens")
    if budget is not None and (type(budget) is not int or budget < 1):
        raise wrong_type("thinking.budget_tokens", "a positive whole number")
    return {"thinking": {name: value[name] for name in ("type", "budget_tokens") if name in value}}


def _output(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    only(object_at(value, "output_config"), ("effort", "format"), "output_config")
    told: dict[str, Any] = {}
    if value.get("effort") is not None:
        told["reasoning_effort"] = value["effort"]
    form = value.get("format")
    if form is not None:
        path = "output_config.format"
        if object_at(form, path).get("type") != "json_schema":
            raise unsupported(path, "its type should be json_schema")
        only(form, ("type", "schema"), path)
        schema = {"name": "output", "schema": form.get("schema"), "strict": True}
        told["response_format"] = {"type": "json_schema", "json_schema": schema}
    return told

"""POST /v1/chat/completions and /apply-template: messages and what belongs to them."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, NotRequired, Self

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from slotmux.server.schemas.base import StrictModel, fault
from slotmux.server.schemas.generation import GenerationParams, MaxTokens
from slotmux.server.schemas.parameters import Place, check_not_honoured
from slotmux.server.schemas.thinking import ThinkingParams
from slotmux.server.schemas.tools import ToolParams, calls_of, function_of

MAX_MESSAGES = 1024
MAX_PARTS = 1024
MAX_TEMPLATE_KWARGS = 32
MAX_METADATA = 16
_KWARG = re.compile(r"[a-z][a-z0-9_]{0,63}")
# what the server itself gives a template, and what would replace the template
_RESERVED = (
    "messages tools tool_choice documents functions tokenize add_generation_prompt"
    " chat_template continue_final_message return_dict bos_token eos_token pad_token unk_token"
    " raise_exception strftime_now namespace range dict lipsum cycler joiner loop self caller"
)
_RESERVED_KWARGS = frozenset(_RESERVED.split())


def _content(value: Any) -> Any:
    """A string, or text parts: whether they are joined, and how, is for the template to say."""
    if not isinstance(value, list):
        if value is not None and not isinstance(value, str):
            raise PydanticCustomError("string_type", "should be a string or text parts")
        return value
    if len(value) > MAX_PARTS:
        raise fault(f"at most {MAX_PARTS} content parts")
    return [_part(part) for part in value]


def _part(part: Any) -> dict[str, str]:
    if not isinstance(part, dict):
        raise PydanticCustomError("dict_type", "a content part should be an object")
    if part.get("type") != "text":
        raise fault("only content parts of type 'text' are supported")
    if not isinstance(part.get("text"), str):
        raise fault("a text part should have 'type' and 'text', a string")
    for name, value in part.items():
        if name not in ("type", "text"):
            check_not_honoured(Place.PART, name, value)
    return {"type": "text", "text": part["text"]}


def _few_messages(value: Any) -> Any:
    if isinstance(value, list) and not 1 <= len(value) <= MAX_MESSAGES:
        raise fault(f"should hold 1 to {MAX_MESSAGES} messages")
    return value


def _template_kwargs(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if len(value) > MAX_TEMPLATE_KWARGS:
        raise fault(f"at most {MAX_TEMPLATE_KWARGS} variables")
    for name, item in value.items():
        if not _KWARG.fullmatch(name) or name in _RESERVED_KWARGS:
            raise fault("a name in it is not allowed")
        if not isinstance(item, str | int | float | bool | None):
            raise fault("every variable should be a string, a number, a boolean or null")
        if isinstance(item, str) and len(item) > 1024:
            raise fault("a string in it is longer than 1024 characters")
    return value


def _metadata(value: Any) -> Any:
    """Checked whole: a place inside it would name a client's own key."""
    if not isinstance(value, dict):
        return value
    if len(value) > MAX_METADATA:
        raise fault(f"at most {MAX_METADATA} entries")
    for key, item in value.items():
        if not isinstance(item, str) or len(item) > 512 or len(key) > 64:
            raise fault("should map names of 64 characters to strings of 512 at most")
    return value


class TextPart(TypedDict):
    """A part of a content, as it is sent; what is advice is left out of it."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    type: Literal["text"]
    text: str
    id: NotRequired[str | None]
    cache_control: NotRequired[dict[str, Any] | None]
    annotations: NotRequired[list[Any] | None]
    citations: NotRequired[list[Any] | None]


_Parts = Annotated[list[TextPart], Field(max_length=MAX_PARTS)]
# str or [{"type": "text", "text": str}]
Content = Annotated[Any, BeforeValidator(_content, json_schema_input_type=str | _Parts | None)]
# One thing under the names that servers and clients have for it.
REASONING_NAMES = ("reasoning_content", "reasoning", "thinking")


# As templates call it, where they know only one of two names.
_ROLES = {"developer": "system", "function": "tool"}


class Message(StrictModel):
    """One message; of the assistant also with calls, of a tool with what a call gave."""

    place: ClassVar[Place | None] = Place.MESSAGE
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content | None = None
    name: Annotated[str, StringConstraints(max_length=256)] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    thinking: str | None = None
    tool_calls: Annotated[list[dict[str, Any]] | None, BeforeValidator(calls_of)] = None
    function_call: Annotated[
        dict[str, Any] | None, BeforeValidator(lambda value: value and function_of(value))
    ] = None
    tool_call_id: Annotated[str, StringConstraints(max_length=256)] | None = None

    @model_validator(mode="after")
    def _check_content(self) -> Self:
        if self.content is None and self.role != "assistant":
            raise fault("a message should have content", "content")
        if self.role != "assistant" and (self.tool_calls or self.function_call):
            raise fault("only the assistant calls tools", "tool_calls")
        if len({getattr(self, name) for name in REASONING_NAMES} - {None}) > 1:
            names = ", ".join(REASONING_NAMES)
            raise fault(f"{names} mean the same and differ", "reasoning_content")
        return self

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Its calls, an old function_call among them."""
        if self.function_call is not None and not self.tool_calls:
            return [{"type": "function", "function": self.function_call}]
        return self.tool_calls or []

    @property
    def n_bytes(self) -> int:
        """Of its text, in UTF-8."""
        parts = self.content if isinstance(self.content, list) else [{"text": self.content or ""}]
        return sum(len(part["text"].encode()) for part in parts)

    def for_template(self) -> dict[str, Any]:
        """As a template sees it: 'developer' is what older templates call 'system'."""
        message: dict[str, Any] = self.model_dump(exclude_none=True, exclude={"function_call"})
        if self.calls:
            message["tool_calls"] = self.calls
        message.setdefault("content", None if self.calls else "")
        message["role"] = _ROLES.get(self.role, self.role)
        thought = next((message.pop(n) for n in REASONING_NAMES if n in message), None)
        for name in REASONING_NAMES:
            message.pop(name, None)
        if thought is not None:
            message[REASONING_NAMES[0]] = thought
        return message


_Variables = Annotated[
    dict[
        Annotated[str, StringConstraints(pattern=f"^{_KWARG.pattern}$")],
        Annotated[str, StringConstraints(max_length=1024)] | int | float | bool | None,
    ],
    Field(max_length=MAX_TEMPLATE_KWARGS),
]


class TemplateParams(StrictModel, ToolParams, ThinkingParams):
    """What a chat template is rendered from."""

    place: ClassVar[Place | None] = Place.CHAT
    messages: Annotated[
        list[Message],
        Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True),
        BeforeValidator(_few_messages),
    ]
    chat_template_kwargs: Annotated[
        dict[str, Any] | None,
        BeforeValidator(_template_kwargs, json_schema_input_type=_Variables | None),
    ] = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    verbosity: Literal["low", "medium", "high"] | None = None

    @model_validator(mode="after")
    def _check_turn(self) -> Self:
        if self.add_generation_prompt and self.continue_final_message:
            raise fault(
                "a message is continued or a new turn begun: not both", "continue_final_message"
            )
        self.check_tools()
        self.check_thinking()
        return self

    @property
    def template_variables(self) -> dict[str, Any]:
        """The request's own variables; a template does without those that it does not read."""
        variables = {} if self.verbosity is None else {"verbosity": self.verbosity}
        variables |= self.thinking_variables
        return variables | (self.chat_template_kwargs or {})

    @property
    def continues(self) -> bool:
        """Whether the last message goes on: where nothing is said, if it is the assistant's."""
        if self.continue_final_message is not None:
            return self.continue_final_message
        return self.add_generation_prompt is None and self.messages[-1].role == "assistant"

    @property
    def begins_turn(self) -> bool:
        """Whether the assistant's next turn is begun."""
        return self.add_generation_prompt is not False and not self.continues


_Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ],
    Field(max_length=MAX_METADATA),
]


class ChatRequest(GenerationParams, TemplateParams):
    """Body of POST /v1/chat/completions."""

    place: ClassVar[Place | None] = Place.CHAT
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    metadata: Annotated[
        dict[str, str] | None, BeforeValidator(_metadata, json_schema_input_type=_Metadata | None)
    ] = None

    @model_validator(mode="after")
    def _check_chat(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise fault("'top_logprobs' is only allowed when 'logprobs' is true", "top_logprobs")
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise fault(
                "'max_tokens' and 'max_completion_tokens' are the same and differ", "max_tokens"
            )
        return self

    @property
    def n_max_tokens(self) -> int | None:
        """Either name of the limit."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def n_logprobs(self) -> int:
        """As SamplingParams.n_logprobs."""
        return (self.top_logprobs or 0) if self.logprobs else -1

"""The bodies of /api/chat and /api/generate, and the OpenAI bodies they become."""

from __future__ import annotations

from typing import Any, ClassVar

from slotmux.server.dialects.blocks import unsupported, wrong_type
from slotmux.server.dialects.ollama.messages import chat_messages
from slotmux.server.dialects.ollama.options import (
    chat_options,
    no_images,
    response_format,
    thinking,
)
from slotmux.server.schemas.base import StrictModel
from slotmux.server.schemas.generation import Label
from slotmux.server.schemas.parameters import Place


class OllamaRequest(StrictModel):
    """What both have. Loosely typed members are checked where they are translated."""

    place: ClassVar[Place | None] = None
    model: Label
    stream: bool | None = None  # null: yes
    format: Any = None
    options: Any = None
    think: Any = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    # Advice: the model stays loaded, and prompts are neither cut nor shifted.
    keep_alive: str | int | float | None = None
    truncate: bool | None = None
    shift: bool | None = None

    @property
    def is_streamed(self) -> bool:
        """A stream is the rule here."""
        return self.stream is not False

    def common(self) -> dict[str, Any]:
        """OpenAI's words for it. Raises ApiError 400."""
        if self.logprobs or self.top_logprobs:
            raise unsupported("logprobs", "/v1/chat/completions has them")
        body: dict[str, Any] = {"model": self.model.removesuffix(":latest")}
        body |= chat_options(self.options) | response_format(self.format)
        return body | thinking(self.think)


class OllamaChat(OllamaRequest):
    """Body of POST /api/chat."""

    messages: Any = None
    tools: Any = None

    def chat_body(self) -> dict[str, Any]:
        """As a body of /v1/chat/completions."""
        body = self.common() | {"messages": chat_messages(self.messages)}
        if self.tools:
            body["tools"] = self.tools
        return body


class OllamaGenerate(OllamaRequest):
    """Body of POST /api/generate."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: Any = None
    raw: bool | None = None
    images: Any = None

    def check(self) -> None:
        """Refuses what cannot be done, by name."""
        no_images(self.images, "images")
        if self.template:
            raise unsupported("template", "--chat-template-file is the operator's")
        if self.context not in (None, []):
            raise unsupported("context", "send the conversation to /api/chat")
        if self.suffix and self.system:
            raise wrong_type("system", "absent where there is a suffix: the prompt is raw")

    @property
    def is_raw(self) -> bool:
        """Whether the prompt is continued as it stands, without the chat template."""
        return bool(self.raw) or bool(self.suffix)

    def chat_body(self) -> dict[str, Any]:
        """As a body of /v1/chat/completions."""
        messages = [{"role": "user", "content": self.prompt or ""}]
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        return self.common() | {"messages": messages}

    def completion_body(self) -> dict[str, Any]:
        """As a body of /v1/completions."""
        body = self.common() | {"prompt": self.prompt or ""}
        body.setdefault("max_tokens", -1)
        if self.suffix:
            body["suffix"] = self.suffix
        return body

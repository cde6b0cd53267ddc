"""The response object and its output items."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from slotmux.server.answers.delta import Call
from slotmux.server.dialects.chat_path import Turn
from slotmux.server.dialects.responses.schema import ResponsesRequest
from slotmux.server.dialects.responses.tools import Names, custom_input

Item = dict[str, Any]


def new_id(prefix: str) -> str:
    """A name that nobody else has."""
    return f"{prefix}_{uuid.uuid4().hex}"


@dataclass(slots=True)
class Wording:
    """What of a response does not change while it is generated."""

    params: ResponsesRequest
    turn: Turn
    names: Names  # of the tools
    id: str = field(default_factory=lambda: new_id("resp"))
    created_at: int = field(default_factory=lambda: int(time.time()))

    @property
    def in_background(self) -> bool:
        """Whether nobody needs to wait for it."""
        return bool(self.params.background)

    def response(self, status: str, output: list[Item], **told: Any) -> dict[str, Any]:
        """The object in one of its states: queued, in_progress, completed, incomplete,
        failed, cancelled."""
        params = self.params
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "status": status,
            "background": self.in_background,
            "error": None,
            "incomplete_details": None,
            "instructions": params.instructions,
            "max_output_tokens": params.max_output_tokens,
            "max_tool_calls": params.max_tool_calls,
            "model": self.turn.model,
            "output": output,
            "parallel_tool_calls": params.parallel_tool_calls is not False,
            "previous_response_id": params.previous_response_id,
            "prompt_cache_key": params.prompt_cache_key,
            "reasoning": params.reasoning or {"effort": None, "summary": None},
            "safety_identifier": params.safety_identifier,
            "service_tier": "default",
            "store": params.is_stored,
            "temperature": self.turn.sampling.temperature,
            "text": {"format": {"type": "text"}} | (params.text or {}),
            "tool_choice": params.tool_choice or "auto",
            "tools": params.tools or [],
            "top_logprobs": 0,
            "top_p": self.turn.sampling.top_p,
            "truncation": params.truncation or "disabled",
            "usage": None,
            "user": params.user,
            "metadata": params.metadata or {},
        } | told

    def ended(self, word: str, output: list[Item]) -> dict[str, Any]:
        """The object at its end; ``word``: the reader's for why it ended."""
        told: dict[str, Any] = {"usage": self._usage()}
        if word == "length":
            told["incomplete_details"] = {"reason": "max_output_tokens"}
            return self.response("incomplete", output, **told)
        return self.response("completed", output, completed_at=int(time.time()), **told)

    def _usage(self) -> dict[str, Any]:
        usage = self.turn.generation.usages[0]
        return {
            "input_tokens": usage.n_prompt,
            "input_tokens_details": {"cached_tokens": usage.n_cached},
            "output_tokens": usage.n_generated,
            "output_tokens_details": {"reasoning_tokens": self.turn.reader.n_reasoning},
            "total_tokens": usage.n_prompt + usage.n_generated,
        }

    def call_item(self, call: Call, item_id: str, status: str) -> Item:
        """A call of a tool as the kind of item that its tool makes it."""
        if call.name in self.names.custom:
            return {
                "id": item_id,
                "type": "custom_tool_call",
                "status": status,
                "call_id": call.id,
                **self.names.of(call.name),
                "input": custom_input(call.arguments) if call.arguments else "",
            }
        return {
            "id": item_id,
            "type": "function_call",
            "status": status,
            "call_id": call.id,
            **self.names.of(call.name),
            "arguments": call.arguments,
        }


def reasoning_item(item_id: str, text: str) -> Item:
    """A thought, told as it was. Its state is not encrypted: it is the text."""
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {"id": item_id, "type": "reasoning", "summary": [], "content": content}


def text_part(text: str) -> dict[str, Any]:
    """The content of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message_item(item_id: str, parts: list[dict[str, Any]], status: str) -> Item:
    """What the assistant says."""
    return {
        "id": item_id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": parts,
    }

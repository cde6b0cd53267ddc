"""Ollama's messages as OpenAI's: calls have no ids there, and arguments are objects."""

from __future__ import annotations

from typing import Any

import orjson

from slotmux.server.dialects.blocks import list_at, object_at, only, text_at, wrong_type
from slotmux.server.dialects.ollama.options import no_images
from slotmux.server.schemas.chat import MAX_MESSAGES

_KNOWN = [
    "role",
    "content",
    "images",
    "thinking",
    "tool_calls",
    "tool_name",
    "tool_call_id",
    "name",
]


def chat_messages(messages: Any) -> list[dict[str, Any]]:
    """OpenAI's messages. Raises ApiError 400 that names what is wrong.

    A result belongs to the first call of its name, else to the first, that has none yet.
    """
    told: list[dict[str, Any]] = []
    waiting: list[tuple[str, str]] = []  # ids and names of calls without a result
    for index, message in enumerate(list_at(messages, "messages", MAX_MESSAGES)):
        path = f"messages[{index}]"
        only(object_at(message, path), _KNOWN, path)
        no_images(message.get("images"), f"{path}.images")
        role = text_at(message, "role", path)
        if role not in ("system", "user", "assistant", "tool"):
            raise wrong_type(f"{path}.role", "'system', 'user', 'assistant' or 'tool'")
        content = message.get("content")
        one: dict[str, Any] = {"role": role, "content": "" if content is None else content}
        if not isinstance(one["content"], str):
            raise wrong_type(f"{path}.content", "a string")
        if message.get("thinking"):
            one["reasoning_content"] = text_at(message, "thinking", path)
        if message.get("tool_calls"):
            one["tool_calls"] = _calls(message["tool_calls"], f"{path}.tool_calls", index)
            waiting = [(call["id"], call["function"]["name"]) for call in one["tool_calls"]]
        if role == "tool":
            one["tool_call_id"] = _answered(message, waiting)
        told.append(one)
    return told


def _calls(calls: Any, path: str, at: int) -> list[dict[str, Any]]:
    told = []
    for index, call in enumerate(list_at(calls, path)):
        where = f"{path}[{index}]"
        only(object_at(call, where), ("id", "type", "function"), where)
        function = object_at(call.get("function"), f"{where}.function")
        only(function, ("name", "arguments", "index", "description"), f"{where}.function")
        arguments = function.get("arguments", {})
        if not isinstance(arguments, str):
            object_at(arguments, f"{where}.function.arguments")
            arguments = orjson.dumps(arguments).decode()
        name = text_at(function, "name", f"{where}.function")
        call_id = call.get("id") or f"call_{at}_{index}"
        if not isinstance(call_id, str):
            raise wrong_type(f"{where}.id", "a string")
        told.append(
            {
                "id": call_id,
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
        )
    return told


def _answered(message: dict[str, Any], waiting: list[tuple[str, str]]) -> str:
    """The id of the call that a result answers."""
    sent = message.get("tool_call_id")
    name = message.get("tool_name") or message.get("name")
    for place, (call_id, called) in enumerate(waiting):
        if call_id == sent or (sent is None and called == name):
            return waiting.pop(place)[0]
    if isinstance(sent, str):
        return sent
    return waiting.pop(0)[0] if waiting else "call_0"

"""Tools for models whose template knows none: told in the system message, and calls as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from slotmux.server.tools.formats.base import Format
from slotmux.server.tools.formats.json_calls import JsonCalls
from slotmux.server.tools.formats.pythonic import Pythonic
from slotmux.server.tools.rules import Tool

Message = dict[str, Any]

_INTRODUCTION = """\
You can call functions to help with the user's request. These are their signatures, one a line:
<tools>
{tools}
</tools>
To call one, answer with a JSON object of its name and its arguments between these marks:
<tool_call>
{{"name": <name>, "arguments": <object>}}
</tool_call>
What it gave comes back between <tool_response> and </tool_response>."""


def introduce(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
    """``messages`` with a system message that tells of ``tools``, behind what it says already."""
    lines = "\n".join(json.dumps(tool.for_template(), ensure_ascii=False) for tool in tools)
    text = _INTRODUCTION.format(tools=lines)
    first = messages[0] if messages else {}
    if first.get("role") != "system":
        return [{"role": "system", "content": text}, *messages]
    content = first["content"]
    if isinstance(content, list):
        content = [*content, {"type": "text", "text": f"\n\n{text}"}]
    else:
        content = f"{content}\n\n{text}" if content else text
    return [{**first, "content": content}, *messages[1:]]


def as_text(messages: Sequence[Message]) -> list[Message]:
    """``messages`` without calls and tools: both as text of the assistant and the user."""
    told: list[Message] = []
    is_response = False  # whether the last message is one that was made here
    for message in messages:
        was_response, is_response = is_response, message.get("role") == "tool"
        if message.get("tool_calls"):
            told.append(with_calls_as_text(message, None))
        elif is_response and was_response:
            told[-1]["content"] += "\n" + _response(message)
        elif is_response:
            told.append({"role": "user", "content": _response(message)})
        else:
            told.append(message)
    return told


def calls_as_text(messages: Sequence[Message], format_: Format) -> list[Message]:
    """``messages`` for a template that shows what tools gave, but not what was called."""
    return [with_calls_as_text(m, format_) if m.get("tool_calls") else m for m in messages]


def with_calls_as_text(message: Message, format_: Format | None) -> Message:
    """A message of the assistant with its calls behind its content, as a model would write them."""
    plain = {key: value for key, value in message.items() if key != "tool_calls"}
    content = plain.get("content") or ""
    text = written(message["tool_calls"], format_)
    if isinstance(content, list):
        return {**plain, "content": [*content, {"type": "text", "text": text}]}
    return {**plain, "content": f"{content}\n{text}" if content else text}


def written(calls: Sequence[Mapping[str, Any]], format_: Format | None) -> str:
    """Calls in the notation of a format that has a plain one, else between <tool_call> marks."""
    pairs = [(c["function"]["name"], _arguments(c["function"]["arguments"])) for c in calls]
    if isinstance(format_, Pythonic):
        inside = ", ".join(f"{name}({_keywords(arguments)})" for name, arguments in pairs)
        return f"{format_.begin}[{inside}]{format_.end}"
    if isinstance(format_, JsonCalls) and format_.is_list:
        names = format_.name_key, format_.arguments_key
        listed = [dict(zip(names, pair, strict=True)) for pair in pairs]
        return f"{format_.begin}{json.dumps(listed, ensure_ascii=False)}{format_.end}"
    return "\n".join(
        "<tool_call>\n"
        + json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
        + "\n</tool_call>"
        for name, arguments in pairs
    )


def _keywords(arguments: Any) -> str:
    pairs = arguments.items() if isinstance(arguments, dict) else ()
    return ", ".join(f"{key}={value!r}" for key, value in pairs)


def _arguments(arguments: Any) -> Any:
    """Arguments as a value; text that is no JSON stays text."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _response(message: Message) -> str:
    content = message.get("content") or ""
    if isinstance(content, list):
        content = "\n".join(part["text"] for part in content)
    return f"<tool_response>\n{content}\n</tool_response>"

"""Fits a conversation to what a template can take: contents as text or as parts, arguments of
tool calls as JSON text or as objects. What it can take is found by trying, once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

_NEEDLE = "slotmuxneedle"
# What templates call an assistant's thoughts in the history; the first is what we are given.
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_KEY, _VALUE = "slotmuxkey", "slotmuxvalue"

_PARAMETERS = {"type": "object", "properties": {}}
_FUNCTION = {"name": "f", "description": "f", "parameters": _PARAMETERS}
_TOOLS: list[dict[str, Any]] = [{"type": "function", "function": _FUNCTION}]

Message = dict[str, Any]
Render = Callable[[list[Message], list[dict[str, Any]] | None], str | None]
Blame = Callable[[str, str], NoReturn]  # message, param


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a template understands."""

    text_contents: bool
    part_contents: bool
    object_arguments: bool
    # Contents beside calls with which these are shown; none: calls are not shown at all.
    call_contents: tuple[str | None, ...] = ("", None)
    sample: str = ""  # a prompt with a call in it; '' if calls are not shown


def probe(render: Render) -> Abilities:
    """Find out with small conversations; ``render`` gives None when the template fails."""
    plain = render([{"role": "user", "content": _NEEDLE}], None)
    parts = render([{"role": "user", "content": [{"type": "text", "text": _NEEDLE}]}], None)
    as_object, contents, sample = _probe_calls(render)
    return Abilities(
        text_contents=plain is not None and _NEEDLE in plain,
        # A template that only prints the list shows its keys.
        part_contents=parts is not None
        and _NEEDLE in parts
        and "'type'" not in parts
        and '"type"' not in parts,
        object_arguments=as_object,
        call_contents=contents,
        sample=sample,
    )


def _probe_calls(render: Render) -> tuple[bool, tuple[str | None, ...], str]:
    """Whether arguments shall be an object, beside which contents calls are shown, and how."""
    objects, texts = {_KEY: _VALUE}, f'{{"{_KEY}": "{_VALUE}"}}'
    for arguments, tools in ((objects, None), (objects, _TOOLS), (texts, None), (texts, _TOOLS)):
        shown: dict[str | None, str] = {}
        for content in ("", None):
            history = [
                {"role": "user", "content": _NEEDLE},
                _call(arguments, content),
                {"role": "tool", "tool_call_id": "call00001", "name": "f", "content": _NEEDLE},
            ]
            text = render(history, tools)
            if text and _KEY in text and _VALUE in text and f"'{_KEY}'" not in text:
                shown[content] = text
        if shown:
            return isinstance(arguments, dict), tuple(shown), next(iter(shown.values()))
    return False, (), ""


def _call(arguments: Any, content: str | None) -> Message:
    function = {"name": "f", "arguments": arguments}
    call = {"id": "call00001", "type": "function", "function": function}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


def thought_names(source: str) -> tuple[str, ...]:
    """Under which names a template reads thoughts."""
    return tuple(name for name in _THOUGHTS if re.search(rf"\b{name}\b", source))


def with_end(message: Message, end: str) -> Message:
    """A message whose content ends with ``end``."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return {**message, "content": content + end}
    last = {**content[-1], "text": content[-1]["text"] + end}
    return {**message, "content": [*content[:-1], last]}


def adapt(
    messages: Sequence[Mapping[str, Any]],
    abilities: Abilities,
    thoughts: Sequence[str],
    blame: Blame,
) -> list[Message]:
    """Copies of ``messages`` in the form that the template takes, with thoughts under each of the
    names ``thoughts``. Calls ``blame`` for parts that are not text."""
    adapted: list[Message] = []
    names: dict[str, str] = {}  # of tools, by the ids of their calls
    for index, message in enumerate(messages):
        copy = dict(message)
        if (thought := copy.get(_THOUGHTS[0])) is not None:
            copy |= dict.fromkeys(thoughts, thought)
        if "content" in copy:
            copy["content"] = _content(copy["content"], abilities, f"messages[{index}]", blame)
        if copy.get("tool_calls"):
            _adapt_calls(copy, abilities)
            names |= {c["id"]: c["function"]["name"] for c in copy["tool_calls"] if "id" in c}
        elif copy.get("role") == "tool" and not copy.get("name"):
            # Some templates tell which tool it was.
            name = names.get(copy.get("tool_call_id", ""))
            copy |= {} if name is None else {"name": name}
        adapted.append(copy)
    return adapted


def _adapt_calls(message: Message, abilities: Abilities) -> None:
    contents = abilities.call_contents
    if not message.get("content") and contents and message.get("content") not in contents:
        message["content"] = contents[0]
    change = _with_object if abilities.object_arguments else _with_text
    message["tool_calls"] = [change(call) for call in message["tool_calls"]]


def _with_text(call: Any) -> Any:
    """A tool call whose arguments are JSON text."""
    function = call["function"]
    if isinstance(function["arguments"], str):
        return call
    text = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {**function, "arguments": text}}


def _content(content: Any, abilities: Abilities, param: str, blame: Blame) -> Any:
    if isinstance(content, list | tuple):
        texts = [_text_of(part, f"{param}.content[{i}]", blame) for i, part in enumerate(content)]
        if abilities.part_contents:
            return [{"type": "text", "text": text} for text in texts]
        # As llama-server and vLLM do for templates that take text only.
        return "\n".join(texts)
    if isinstance(content, str) and abilities.part_contents and not abilities.text_contents:
        return [{"type": "text", "text": content}]
    return content


def _text_of(part: Any, param: str, blame: Blame) -> str:
    text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
    if not isinstance(text, str):
        blame("only parts of type text are understood", param)
    return text


def _with_object(call: Any) -> Any:
    """A tool call whose arguments, JSON text on the wire, are an object."""
    if not isinstance(call, Mapping) or not isinstance(call.get("function"), Mapping):
        return call
    function = dict(call["function"])
    if isinstance(function.get("arguments"), str):
        try:
            arguments = json.loads(function["arguments"])
        except (ValueError, RecursionError):
            return call  # a model wrote it: leave it as it is
        if isinstance(arguments, dict):
            function["arguments"] = arguments
    return {**call, "function": function}

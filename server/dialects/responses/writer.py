"""A response, streamed as numbered events or whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from slotmux.server.answers.delta import Call, Delta
from slotmux.server.answers.generation import Generation
from slotmux.server.dialects.responses.response import (
    Item,
    Wording,
    message_item,
    new_id,
    reasoning_item,
    text_part,
)
from slotmux.server.dialects.turn_writer import TurnWriter
from slotmux.server.http.errors import ApiError

Keep = Callable[[dict[str, Any]], None]


class ResponseWriter(TurnWriter):
    """Items come one after the other: thought, message, calls. ``keep`` gets the ended response."""

    def __init__(self, wording: Wording, keep: Keep) -> None:
        super().__init__(wording.turn)
        self._wording = wording
        self._keep = keep
        self._n_events = 0
        self._has_begun = False
        self._output: list[Item] = []  # those that are complete
        self._kind = ""  # of the item that is being written: reasoning, message or call
        self._item_id = ""
        self._texts: list[str] = []
        self._call = Call("", "")

    @property
    def id(self) -> str:
        """Of the response."""
        return self._wording.id

    def opening(self) -> bytes:
        """That there is a response, and that it is being made; in the background, that it waits."""
        status = "queued" if self._wording.in_background else "in_progress"
        body = {"response": self._wording.response(status, [])}
        return self._event("response.created", body) + self._event(f"response.{status}", body)

    def begun(self) -> bytes:
        """In the background: that it is being made, the first time."""
        if self._has_begun:
            return b""
        self._has_begun = True
        return self._event("response.in_progress", {"response": self.so_far("in_progress")})

    def so_far(self, status: str, **told: Any) -> dict[str, Any]:
        """The response with the items that are complete."""
        return self._wording.response(status, list(self._output), **told)

    def cancelled(self) -> bytes:
        """That it was ended before its time."""
        closed = self._leave("incomplete")
        response = self.so_far("cancelled")
        self._keep(response)
        return closed + self._event("response.cancelled", {"response": response})

    def worded(self, delta: Delta) -> bytes:
        """Deltas of items, and where items begin and end."""
        parts: list[bytes] = []
        if delta.reasoning:
            parts.append(self._enter("reasoning"))
            parts.append(self._add("response.reasoning_text.delta", delta.reasoning))
        if delta.content:
            parts.append(self._enter("message"))
            parts.append(self._add("response.output_text.delta", delta.content))
        for tool in delta.tools:
            if tool.name is not None:
                parts.append(self._leave())
                self._call = Call(tool.id or "", tool.name)
                parts.append(self._enter("call"))
            if tool.arguments and self._is_custom:
                self._texts.append(tool.arguments)  # JSON around the text: told once it is whole
            elif tool.arguments:
                parts.append(self._add("response.function_call_arguments.delta", tool.arguments))
        return b"".join(parts)

    def ending(self) -> bytes:
        """The end of the last item, and of the response."""
        is_first = not self._output and not self._kind
        begun = self._enter("message") if is_first else b""
        closed = begun + self._leave()
        response = self._wording.ended(self.word, self._output)
        self._keep(response)
        return closed + self._event(f"response.{response['status']}", {"response": response})

    def error(self, error: ApiError) -> bytes:
        """That the response has failed."""
        told = {"code": "server_error", "message": error.message}
        response = self.so_far("failed", error=told)
        if self._wording.in_background:
            self._keep(response)
        return self._event("response.failed", {"response": response})

    def whole(self, generation: Generation) -> dict[str, Any]:
        """The ended response."""
        said = self.said
        output: list[Item] = []
        if said.reasoning:
            output.append(reasoning_item(new_id("rs"), said.reasoning))
        if said.content or not (output or said.calls):
            parts = [text_part(said.content)]
            output.append(message_item(new_id("msg"), parts, self._status))
        output += [self._wording.call_item(call, new_id("fc"), self._status) for call in said.calls]
        response = self._wording.ended(self.word, output)
        self._keep(response)
        return response

    @property
    def _status(self) -> str:
        return "incomplete" if self.word == "length" else "completed"

    @property
    def _is_custom(self) -> bool:
        return self._call.name in self._wording.names.custom

    def _event(self, name: str, data: dict[str, Any]) -> bytes:
        body = {"type": name, "sequence_number": self._n_events} | data
        self._n_events += 1
        return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(body) + b"\n\n"

    def _place(self, *, in_content: bool) -> dict[str, Any]:
        """Where in the response something is."""
        place: dict[str, Any] = {"item_id": self._item_id, "output_index": len(self._output)}
        return place | ({"content_index": 0} if in_content else {})

    def _add(self, name: str, text: str) -> bytes:
        self._texts.append(text)
        body = self._place(in_content=self._kind != "call") | {"delta": text}
        if self._kind == "message":
            body["logprobs"] = []
        return self._event(name, body)

    def _enter(self, kind: str) -> bytes:
        """Begins an item unless it is being written."""
        if self._kind == kind:
            return b""
        closed = self._leave()
        self._kind, self._texts = kind, []
        self._item_id = new_id({"reasoning": "rs", "message": "msg", "call": "fc"}[kind])
        place = {"output_index": len(self._output), "item": self._item("", "in_progress")}
        added = self._event("response.output_item.added", place)
        if kind != "call":
            body = self._place(in_content=True) | {"part": self._part("")}
            added += self._event("response.content_part.added", body)
        return closed + added

    def _leave(self, status: str = "") -> bytes:
        """Ends the item that is being written, if any."""
        if not self._kind:
            return b""
        text = "".join(self._texts)
        done = self._text_done(text)
        item = self._item(text, status or self._status)
        done += self._event(
            "response.output_item.done", {"output_index": len(self._output), "item": item}
        )
        self._output.append(item)
        self._kind = ""
        return done

    def _text_done(self, text: str) -> bytes:
        place = self._place(in_content=self._kind != "call")
        if self._kind == "call" and self._is_custom:
            self._call.arguments = text
            told = self._wording.call_item(self._call, self._item_id, "completed")["input"]
            delta = self._event("response.custom_tool_call_input.delta", place | {"delta": told})
            body = place | {"input": told}
            return delta + self._event("response.custom_tool_call_input.done", body)
        if self._kind == "call":
            body = place | self._wording.names.of(self._call.name) | {"arguments": text}
            return self._event("response.function_call_arguments.done", body)
        if self._kind == "reasoning":
            done = self._event("response.reasoning_text.done", place | {"text": text})
        else:
            body = place | {"text": text, "logprobs": []}
            done = self._event("response.output_text.done", body)
        return done + self._event("response.content_part.done", place | {"part": self._part(text)})

    def _part(self, text: str) -> dict[str, Any]:
        if self._kind == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return text_part(text)

    def _item(self, text: str, status: str) -> Item:
        if self._kind == "reasoning":
            return reasoning_item(self._item_id, text)
        if self._kind == "call":
            self._call.arguments = text
            return self._wording.call_item(self._call, self._item_id, status)
        parts = [] if status == "in_progress" else [text_part(text)]
        return message_item(self._item_id, parts, status)

"""What a route takes and gives, in Python's types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slotmux.server.schemas.base import StrictModel

Json = dict[str, Any]
EVENTS, LINES = "text/event-stream", "application/x-ndjson"
# Whatever pydantic makes a schema of: a class, a union, list[...].
Type = Any


@dataclass(frozen=True, slots=True)
class Body:
    """A body that several models check together: its members are theirs, the last one's first,
    but for ``changed``, which have a schema of their own here."""

    name: str
    models: tuple[type[StrictModel], ...]
    changed: Mapping[str, Json]
    required: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """What an endpoint does. ``answer``: the type of its JSON; None: it is a text of ``media``, or
    of another of ``medias`` to who asks for that.
    ``chunk``: of an event's data, or of a line, where the answer may be streamed."""

    answer: Type = None
    body: type[StrictModel] | Body | None = None
    chunk: Type = None
    media: str = "application/json"
    medias: tuple[str, ...] = ()
    streamed_as: str = EVENTS
    query: Mapping[str, Json] = field(default_factory=dict)  # names and their schemas
    needs_body: bool = True  # False: some of what the route does needs none
    is_refused: bool = False  # the route only says that there is no such thing

    @property
    def models(self) -> tuple[type[StrictModel], ...]:
        """What checks its body."""
        if self.body is None:
            return ()
        return self.body.models if isinstance(self.body, Body) else (self.body,)


REFUSED = Operation(is_refused=True)

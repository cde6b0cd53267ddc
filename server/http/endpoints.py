"""What a module serves: each endpoint is told once, beside its handler, and all else is made of it.

Who may enter, how errors are told, what /openapi.json says and which path a client may have meant
come from here (``Paths``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.responses import Response

from slotmux.server.http.auth import Rule
from slotmux.server.http.shapes import Shape, openai_body
from slotmux.server.openapi.operation import Operation

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Response]])


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path and the methods of one handler. ``told``: what they take and give; ``rule``: who may
    enter; ``shape``: how errors are told."""

    route: APIRoute
    told: Operation
    rule: Rule
    shape: Shape

    @property
    def path(self) -> str:
        """With its variables in braces."""
        return self.route.path

    @property
    def methods(self) -> list[str]:
        """In order of the alphabet."""
        return sorted(self.route.methods or ())


class Endpoints:
    """Those of a module. ``shape``: how they tell errors unless one says otherwise; ``under``: the
    beginning of unknown paths whose errors are told so too."""

    def __init__(self, shape: Shape = openai_body, *, under: str | None = None) -> None:
        self.router = APIRouter()
        self.shape = shape
        self.under = under
        self._all: list[Endpoint] = []

    @property
    def all(self) -> tuple[Endpoint, ...]:
        """In the order in which they were added."""
        return tuple(self._all)

    def add(
        self,
        methods: Sequence[str],
        *paths: str,
        told: Operation,
        rule: Rule = "key",
        shape: Shape | None = None,
    ) -> Callable[[Handler], Handler]:
        """A decorator: its function serves every path of ``paths``."""

        def decorate(handler: Handler) -> Handler:
            for path in paths:
                self.router.add_api_route(path, handler, methods=[*methods], response_model=None)
                route = self.router.routes[-1]
                assert isinstance(route, APIRoute)
                self._all.append(Endpoint(route, told, rule, shape or self.shape))
            return handler

        return decorate

    def get(
        self, *paths: str, told: Operation, rule: Rule = "key", shape: Shape | None = None
    ) -> Callable[[Handler], Handler]:
        """``add`` for GET."""
        return self.add(["GET"], *paths, told=told, rule=rule, shape=shape)

    def post(
        self, *paths: str, told: Operation, rule: Rule = "key", shape: Shape | None = None
    ) -> Callable[[Handler], Handler]:
        """``add`` for POST."""
        return self.add(["POST"], *paths, told=told, rule=rule, shape=shape)

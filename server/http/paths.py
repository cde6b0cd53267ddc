"""What exists: which methods a path takes, and which one was meant where there is none."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute

_MAX_CHARS = 128  # of a path that is compared with ours
_PREFIX = "/v1"


class Paths:
    """Of the routes of an app. Only our own words are ever told, never the path that was sent."""

    def __init__(self, routers: Iterable[APIRouter]) -> None:
        found = (route for router in routers for route in router.routes)
        self.routes = tuple(route for route in found if isinstance(route, APIRoute))
        self.document: dict[str, Any] | None = None  # OpenAPI's, once somebody asked for it

    def methods(self, path: str) -> list[str]:
        """What ``path`` takes, in order of the alphabet; nothing if it does not exist."""
        return sorted({method for route in self._at(path) for method in route.methods or ()})

    def meant_by(self, path: str) -> str | None:
        """The endpoint that a path is probably meant for: it lacks /v1, has one too many, a slash
        at its end or a slip of the pen."""
        for variant in _variants(path[:_MAX_CHARS]):
            for route in self._at(variant):
                return route.path_format
        names = {route.path_format for route in self.routes}
        near = difflib.get_close_matches(path[:_MAX_CHARS], sorted(names), 1, 0.8)
        return near[0] if near else None

    def _at(self, path: str) -> Iterator[APIRoute]:
        return (route for route in self.routes if route.path_regex.match(path))


def _variants(path: str) -> Iterator[str]:
    clean = "/" + "/".join(part for part in path.split("/") if part)
    yield clean
    yield _PREFIX + clean
    yield clean.removeprefix(_PREFIX)
    last = clean.rfind(_PREFIX + "/")
    if last > 0:
        yield clean[last:]
        yield clean[last:].removeprefix(_PREFIX)

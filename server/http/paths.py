"""What exists, by path: its methods, who may enter, how errors are told, and what was meant where
there is nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from slotmux.server.http.auth import Rule
from slotmux.server.http.endpoints import Endpoint, Endpoints
from slotmux.server.http.shapes import Shape, openai_body

_MAX_CHARS = 128  # of a path that is compared with ours
_PREFIX = "/v1"


class Paths:
    """Of an app. Only our own words are ever told, never the path that was sent."""

    def __init__(self, tables: Iterable[Endpoints]) -> None:
        tables = tuple(tables)
        self.endpoints = tuple(endpoint for table in tables for endpoint in table.all)
        self._rules = _rules(self.endpoints)
        self._under = [(table.under, table.shape) for table in tables if table.under]
        self.document: dict[str, Any] | None = None  # OpenAPI's, once somebody asked for it

    def methods(self, path: str) -> list[str]:
        """What ``path`` takes, in order of the alphabet; nothing if it does not exist."""
        return sorted({method for endpoint in self._at(path) for method in endpoint.methods})

    def rule(self, path: str) -> Rule:
        """Who may enter; an unknown path tells strangers nothing."""
        return self._rules.get(path, "key")

    def shape_of(self, path: str) -> Shape:
        """How errors of a path are told, an unknown one's too."""
        for endpoint in self._at(path):
            return endpoint.shape
        under = (shape for beginning, shape in self._under if path.startswith(beginning))
        return next(under, openai_body)

    def meant_by(self, path: str) -> str | None:
        """The endpoint that a path is probably meant for: it lacks /v1, has one too many, a slash
        at its end or a slip of the pen."""
        for variant in _variants(path[:_MAX_CHARS]):
            for endpoint in self._at(variant):
                return endpoint.route.path_format
        names = {endpoint.route.path_format for endpoint in self.endpoints}
        near = difflib.get_close_matches(path[:_MAX_CHARS], sorted(names), 1, 0.8)
        return near[0] if near else None

    def _at(self, path: str) -> Iterator[Endpoint]:
        return (each for each in self.endpoints if each.route.path_regex.match(path))


def _rules(endpoints: Iterable[Endpoint]) -> dict[str, Rule]:
    """By path. All that is served under one path agrees, since who may enter and how errors are
    told is decided before the method is looked at."""
    found: dict[str, Endpoint] = {}
    for endpoint in endpoints:
        path = endpoint.path
        first = found.setdefault(path, endpoint)
        assert (first.rule, first.shape) == (endpoint.rule, endpoint.shape), path
        assert endpoint.rule == "key" or "{" not in path, f"{path}: rules go by the whole path"
    return {path: endpoint.rule for path, endpoint in found.items()}


def _variants(path: str) -> Iterator[str]:
    clean = "/" + "/".join(part for part in path.split("/") if part)
    yield clean
    yield _PREFIX + clean
    yield clean.removeprefix(_PREFIX)
    last = clean.rfind(_PREFIX + "/")
    if last > 0:
        yield clean[last:]
        yield clean[last:].removeprefix(_PREFIX)

"""Schemas of what only operators ask for."""

from __future__ import annotations

from typing_extensions import TypedDict


class KeptState(TypedDict):
    """A kept recurrent state; the one of least worth is given up first."""

    position: int
    kind: str
    n_hits: int
    is_fork: bool
    worth: float


class Stretch(TypedDict):
    """A path of the prefix cache without a fork; -1 is the parent of those that begin at 0."""

    id: int
    parent: int
    owner: str
    begin: int
    end: int
    n_blocks: int
    n_held: int
    states: list[KeptState]


class PrefixCache(TypedDict):
    """What the prefix cache holds."""

    stretches: list[Stretch]
    is_all: bool

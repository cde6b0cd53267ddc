"""Samples of a run and what follows from them: medians, ratios of neighbouring runs, shares."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Cell:
    """One test of one file. ``ours`` and ``theirs`` hold tokens a second, one a round, taken in
    turn; ``theirs`` is llama.cpp's, ``others`` those of further peers by name: each as long as
    ``ours``, or shorter where it failed. ``errors``: why a program has no number, by name."""

    file: str
    model: str
    type: str
    test: str
    kind: str
    n_parallel: int
    bytes_per_token: float  # that a generation must read; 0 for prompts
    ops_per_token: float
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    n_noisy: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    others: dict[str, list[float]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        return self.file, self.test

    @property
    def speed(self) -> float | None:
        return statistics.median(self.ours) if self.ours else None

    @property
    def peer_speed(self) -> float | None:
        return statistics.median(self.theirs) if self.theirs else None

    @property
    def ratios(self) -> list[float]:
        """Of each round: a disturbance that hits both sides of it cancels."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=False)]

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ratios) if self.ratios else None

    def ratio_to(self, other: str) -> float | None:
        """To a further peer: the median of the rounds' own ratios."""
        pairs = zip(self.ours, self.others.get(other, ()), strict=False)
        ratios = [a / b for a, b in pairs]
        return statistics.median(ratios) if ratios else None

    @property
    def spread(self) -> float | None:
        """Of our rounds: the extremes' distance, of the median."""
        if len(self.ours) < 2:
            return None
        return (max(self.ours) - min(self.ours)) / statistics.median(self.ours)


@dataclass(slots=True)
class Run:
    """Everything that a report needs. ``machine`` holds words, ``limits`` the roofline,
    ``bandwidths`` bytes a second of reads that were measured before each file."""

    machine: dict[str, str]
    limits: dict[str, Any]
    cells: list[Cell] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    bandwidths: list[float] = field(default_factory=list)

    def cell(self, file: str, test: str) -> Cell | None:
        return next((cell for cell in self.cells if cell.key == (file, test)), None)

    def bandwidth_share(self, cell: Cell, speed: float | None) -> float | None:
        """Of the measured memory bandwidth; above 1 where caches hold a part of the weights."""
        if speed is None or not cell.bytes_per_token:
            return None
        return speed * cell.bytes_per_token / float(self.limits["bytes_per_second"])

    def arithmetic_share(self, cell: Cell, speed: float | None) -> float | None:
        """Of the 8-bit multiply-adds that the units do in registers."""
        if speed is None:
            return None
        return speed * cell.ops_per_token / float(self.limits["int8_ops_per_second"])

    def save(self, path: Path) -> None:
        """Replaces the file at once, so that an interrupted run leaves a whole one."""
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Run:
        data = json.loads(path.read_text())
        return cls(**{**data, "cells": [Cell(**cell) for cell in data["cells"]]})


def geometric_mean(values: list[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def group_of(cell: Cell) -> str:
    """For the summary: prompts, one sequence generating, several together."""
    if cell.kind == "pp":
        return "prompt"
    return "generation" if cell.n_parallel == 1 else "several sequences together"

"""Runs every test of every file in turn, ours and the peer's, and repeats what was disturbed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slotmux.runtime.gguf import ModelFileError
from tests.bench.cases import SpeedTest, split_name
from tests.bench.programs import LlamaCpp, Program, ProgramError, Slotmux
from tests.bench.quiet import Quiet, Watch
from tests.bench.results import Cell, Run
from tests.bench.work import Work, work_of


@dataclass(frozen=True, slots=True)
class Plan:
    """``programs``: ours, then its peers. ``n_retries``: how often a disturbed round is measured
    again. ``measure_reads``: bytes a second of memory, now."""

    models: list[Path]
    tests: list[SpeedTest]
    programs: list[Program]
    n_rounds: int
    n_retries: int
    n_threads: int
    measure_reads: Callable[[], float]


def run_suite(plan: Plan, run: Run, quiet: Quiet, save: Callable[[], None]) -> None:
    """Appends to ``run`` what it has not measured yet; ``save`` is called after every test."""
    for model in plan.models:
        try:
            work = work_of(model)
        except ModelFileError as error:
            print(f"{model.name}: {error}", file=sys.stderr)
            continue
        if all(run.cell(model.name, str(test)) for test in plan.tests):
            continue
        run.bandwidths.append(plan.measure_reads())
        for test in plan.tests:
            if run.cell(model.name, str(test)) is None:
                cell = new_cell(model, test, work)
                measure_cell(cell, plan, model, test, quiet)
                run.cells.append(cell)
                save()
                print(describe(cell), file=sys.stderr, flush=True)


def new_cell(model: Path, test: SpeedTest, work: Work) -> Cell:
    name, type_name = split_name(model)
    is_prompt = test.kind == "pp"
    n_bytes = 0.0 if is_prompt else work.bytes_per_second(test, 1.0)
    return Cell(
        file=model.name,
        model=name,
        type=type_name,
        test=str(test),
        kind=test.kind,
        n_parallel=test.n_parallel,
        bytes_per_token=n_bytes,
        ops_per_token=work.ops_per_token,
    )


def measure_cell(cell: Cell, plan: Plan, model: Path, test: SpeedTest, quiet: Quiet) -> None:
    """Fill the cell's samples. Who begins changes from round to round, against drift."""
    for i in range(plan.n_rounds):
        for attempt in range(plan.n_retries + 1):
            with Watch(quiet) as watch:
                speeds = _round(cell, plan, model, test, is_reversed=bool(i % 2))
            if not watch.is_noisy or attempt == plan.n_retries or cell.errors:
                break
        for name, speed in speeds.items():
            samples_of(cell, name).append(speed)
        cell.n_noisy += watch.is_noisy


def samples_of(cell: Cell, program: str) -> list[float]:
    """Where a program's tokens a second of each round are kept."""
    known = {Slotmux.name: cell.ours, LlamaCpp.name: cell.theirs}
    return known[program] if program in known else cell.others.setdefault(program, [])


def _round(
    cell: Cell, plan: Plan, model: Path, test: SpeedTest, *, is_reversed: bool
) -> dict[str, float]:
    """Each program once; one that failed before is not asked again."""
    speeds = {}
    for program in reversed(plan.programs) if is_reversed else plan.programs:
        if program.name in cell.errors or not program.can(model, test):
            continue
        try:
            speeds[program.name] = program.measure(model, test, plan.n_threads)
        except ProgramError as error:
            cell.errors[program.name] = str(error)
    return speeds


def describe(cell: Cell) -> str:
    """The line of progress of a measured cell."""
    parts = [f"{cell.model} {cell.type} {cell.test}:"]
    parts += [f"{cell.speed:.1f} tok/s"] if cell.speed else []
    parts += [f"against {cell.peer_speed:.1f}"] if cell.peer_speed else []
    parts += [f"({cell.ratio:.2f}x)"] if cell.ratio else []
    ratios = ((name, cell.ratio_to(name)) for name in cell.others)
    parts += [f"({ratio:.2f}x {name})" for name, ratio in ratios if ratio]
    parts += [f"[{text}]" for text in cell.errors.values()]
    parts += [f"[{cell.n_noisy} disturbed]"] if cell.n_noisy else []
    return " ".join(parts)

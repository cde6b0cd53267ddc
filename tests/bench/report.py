"""The Markdown of a run: the machine, a summary, a line for each test of each file."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from tests.bench.results import Cell, Run, geometric_mean, group_of

HEADER = (
    "model",
    "type",
    "test",
    "slotmux tok/s",
    "llama.cpp tok/s",
    "ratio",
    "range",
    "% bandwidth",
    "its %",
    "GOP/s",
    "% peak",
)
WORD_COLUMNS = ("", "ms", "model", "type", "test", "condition", "program")
READ_ME = """\
Tokens a second of all sequences together, medians over the rounds; *ratio* is the median of the
rounds' own ratios (slotmux : llama.cpp, run one after the other), *range* its extremes. Generation
is held against memory: *% bandwidth* is what the file's weights, the cells and the recurrent state
would need, of the measured reads (over 100% when caches hold a part); *its %* is llama.cpp's.
Prompts are held against arithmetic: *GOP/s* of the matrix products (a multiply-add is two), *%
peak* of what the units do in registers at 8 bits. `~`: the machine was not quiet in some round."""


def markdown(run: Run, plot: str | None = None) -> str:
    """``plot``: the address of a picture to show, relative to the document."""
    has_peer = any(cell.theirs or "llama.cpp" in cell.errors for cell in run.cells)
    parts = [_machine(run), READ_ME]
    if has_peer:
        parts.append(_summary(run))
    if plot:
        parts.append(f"![Distance to the machine's limits]({plot})")
    parts.append(_table(run, has_peer))
    parts += [_notes(run)] if _notes(run) else []
    return "\n\n".join(parts) + "\n"


def _machine(run: Run) -> str:
    limits = run.limits
    facts = [
        *(f"{name}: {value}" for name, value in run.machine.items()),
        f"{limits['n_threads']} threads; kernels: {limits['isa']}",
        f"memory reads {limits['bytes_per_second'] / 1e9:.1f} GB/s; in registers "
        f"{limits['int8_ops_per_second'] / 1e9:.0f} GOP/s at 8 bits, "
        f"{limits['f32_ops_per_second'] / 1e9:.0f} GOP/s in floats",
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def _summary(run: Run) -> str:
    groups: dict[str, list[Cell]] = {}
    for cell in run.cells:
        if cell.ratio is not None:
            groups.setdefault(group_of(cell), []).append(cell)
    lines = [("", "cells", "median ratio", "geometric mean", "lowest")]
    for group, cells in groups.items():
        ratios = [cell.ratio for cell in cells if cell.ratio is not None]
        worst = min(cells, key=lambda cell: cell.ratio or 0)
        lines.append(
            (
                group,
                str(len(cells)),
                f"{statistics.median(ratios):.2f}",
                f"{geometric_mean(ratios):.2f}",
                f"{min(ratios):.2f} ({worst.model} {worst.type} {worst.test})",
            )
        )
    return rows(lines)


def _table(run: Run, has_peer: bool) -> str:
    peer_columns = {"llama.cpp tok/s", "ratio", "range", "its %"}
    kept = [i for i, name in enumerate(HEADER) if has_peer or name not in peer_columns]
    lines = [HEADER, *(_line(run, cell) for cell in run.cells)]
    return rows([tuple(line[i] for i in kept) for line in lines])


def _line(run: Run, cell: Cell) -> tuple[str, ...]:
    ratios = cell.ratios
    is_prompt = cell.kind == "pp"
    ops = cell.speed * cell.ops_per_token if cell.speed and is_prompt else None
    return (
        cell.model,
        cell.type,
        cell.test,
        _speed(cell, "slotmux", cell.speed),
        _speed(cell, "llama.cpp", cell.peer_speed),
        f"{cell.ratio:.2f}{'~' if cell.n_noisy else ''}" if cell.ratio else "",
        f"{min(ratios):.2f}-{max(ratios):.2f}" if len(ratios) > 1 else "",
        _percent(run.bandwidth_share(cell, cell.speed)),
        _percent(run.bandwidth_share(cell, cell.peer_speed)),
        f"{ops / 1e9:.0f}" if ops else "",
        _percent(ops / run.limits["int8_ops_per_second"] if ops else None),
    )


def _speed(cell: Cell, name: str, speed: float | None) -> str:
    if speed is None:
        return "failed" if name in cell.errors else ""
    return f"{speed:.0f}" if speed >= 100 else f"{speed:.1f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f}"


def _notes(run: Run) -> str:
    notes = [f"- not there: {pattern}" for pattern in run.missing]
    for cell in run.cells:
        notes += [f"- {cell.file} {cell.test}: {text}" for text in cell.errors.values()]
    return "\n".join(notes)


def rows(lines: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; the first row is its head, and columns of numbers stand to the right."""
    head, *rest = lines
    rule = ["---" if name in WORD_COLUMNS else "--:" for name in head]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rest))

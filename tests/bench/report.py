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
peak* of what the units do in registers at 8 bits. `~`: the machine was not quiet in some round.
**Bold**: weak, which is slower than a peer, generation of one sequence below 85% of the bandwidth,
of several below 85% of the nearer limit, a prompt below 60% of the arithmetic."""
WEAK_GENERATION, WEAK_PROMPT = 0.85, 0.60
MARK_BEGIN, MARK_END = "<!-- made by make bench -->", "<!-- end of what make bench made -->"


def markdown(run: Run, plot: str | None = None) -> str:
    """``plot``: the address of a picture to show, relative to the document."""
    has_peer = any(cell.theirs or "llama.cpp" in cell.errors for cell in run.cells)
    parts = [_machine(run), READ_ME]
    if has_peer:
        parts.append(_summary(run))
    parts += [_weak_spots(run)] if run.cells else []
    if plot:
        parts.append(f"![Distance to the machine's limits]({plot})")
    parts.append(_table(run, has_peer))
    others = list(dict.fromkeys(name for cell in run.cells for name in _others(cell)))
    parts += [_beside(run, others)] if others else []
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
        *_noise(run),
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def _noise(run: Run) -> list[str]:
    """How far numbers of this machine are to be trusted."""
    facts = []
    if run.bandwidths:
        low, high = min(run.bandwidths) / 1e9, max(run.bandwidths) / 1e9
        facts.append(f"memory reads while the suite ran: {low:.1f} to {high:.1f} GB/s")
    spreads = sorted(cell.spread for cell in run.cells if cell.spread is not None)
    if spreads:
        middle, worst = statistics.median(spreads), spreads[-1]
        n_noisy, n = sum(c.n_noisy for c in run.cells), sum(len(c.ours) for c in run.cells)
        facts.append(
            f"rounds of one test lay {100 * middle:.0f}% of their median apart in the median cell,"
            f" {100 * worst:.0f}% in the worst; {n_noisy} of {n} rounds were disturbed"
        )
    return facts


def is_weak(run: Run, cell: Cell) -> bool:
    """Whether a cell is far from the machine's limit, whatever peers do."""
    if cell.speed is None:
        return False
    arithmetic = run.arithmetic_share(cell, cell.speed) or 0.0
    if cell.kind == "pp":
        return arithmetic < WEAK_PROMPT
    memory = run.bandwidth_share(cell, cell.speed) or 0.0
    nearer = memory if cell.n_parallel == 1 else max(memory, arithmetic)
    return nearer < WEAK_GENERATION


def _others(cell: Cell) -> list[str]:
    """Further peers that were asked about a cell; those that failed come last."""
    failed = (name for name in cell.errors if name not in ("slotmux", "llama.cpp"))
    return list(dict.fromkeys([*cell.others, *failed]))


def _weak_spots(run: Run) -> str:
    """How many cells are weak, of all that have a number."""
    cells = [cell for cell in run.cells if cell.speed is not None]
    slower = [c for c in cells if any(r is not None and r < 1 for r in _ratios(c))]
    far = [c for c in cells if is_weak(run, c)]
    of = f"of {len(cells)}"
    return f"Weak cells: {len(slower)} {of} slower than a peer, {len(far)} {of} far from the limit."


def _ratios(cell: Cell) -> list[float | None]:
    return [cell.ratio, *(cell.ratio_to(name) for name in cell.others)]


def _beside(run: Run, others: list[str]) -> str:
    """The further peers' tokens a second, and the ratio to each."""
    columns = [column for name in others for column in (f"{name} tok/s", f"slotmux : {name}")]
    lines = [("model", "type", "test", "slotmux tok/s", *columns)]
    for cell in run.cells:
        if not _others(cell):
            continue
        line = [cell.model, cell.type, cell.test, _speed(cell, "slotmux", cell.speed)]
        for name in others:
            samples, ratio = cell.others.get(name), cell.ratio_to(name)
            line.append(_speed(cell, name, statistics.median(samples) if samples else None))
            line.append(_bold(f"{ratio:.2f}", ratio < 1) if ratio else "")
        lines.append((*line,))
    return f"Beside other runtimes, each in turn with slotmux:\n\n{rows(lines)}"


def _bold(text: str, is_weak: bool) -> str:
    return f"**{text}**" if is_weak and text else text


def into_page(page: str, text: str) -> str:
    """A page with what was measured in the place of what was measured before; one that has no such
    place is replaced."""
    begin, end = page.find(MARK_BEGIN), page.find(MARK_END)
    if not 0 <= begin < end:
        return text
    return f"{page[:begin]}{MARK_BEGIN}\n\n{text}\n{page[end:]}"


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
    weak, ratio = is_weak(run, cell), cell.ratio
    return (
        cell.model,
        cell.type,
        cell.test,
        _speed(cell, "slotmux", cell.speed),
        _speed(cell, "llama.cpp", cell.peer_speed),
        _bold(f"{ratio:.2f}{'~' if cell.n_noisy else ''}", ratio < 1) if ratio else "",
        f"{min(ratios):.2f}-{max(ratios):.2f}" if len(ratios) > 1 else "",
        _bold(_percent(run.bandwidth_share(cell, cell.speed)), weak),
        _percent(run.bandwidth_share(cell, cell.peer_speed)),
        f"{ops / 1e9:.0f}" if ops else "",
        _bold(_percent(run.arithmetic_share(cell, cell.speed) if ops else None), weak),
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

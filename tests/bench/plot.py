"""A picture of a run as SVG: how near each test comes to what the machine can do at most."""

from __future__ import annotations

from html import escape

from tests.bench.results import Cell, Run

LABELS, WIDTH, BAR, GAP, TOP = 300, 480, 9, 8, 64
OURS, THEIRS, INK, GRID = "#1f6feb", "#b9c0c9", "#24292f", "#d0d7de"


def shares(run: Run, cell: Cell) -> tuple[float | None, float | None]:
    """Ours and the peer's: of memory bandwidth for generation, of 8-bit peak for prompts."""
    if cell.kind == "pp":
        per_token = cell.ops_per_token / run.limits["int8_ops_per_second"]
        return (
            cell.speed and cell.speed * per_token,
            cell.peer_speed and cell.peer_speed * per_token,
        )
    return run.bandwidth_share(cell, cell.speed), run.bandwidth_share(cell, cell.peer_speed)


def svg(run: Run) -> str:
    """Two groups of bars, generation and prompts; a line marks 100%."""
    body: list[str] = []
    y = TOP
    groups = (
        ("tg", "Generation: % of the measured memory bandwidth"),
        ("pp", "Prompts: % of 8-bit multiply-adds in registers"),
    )
    for kind, title in groups:
        drawn = [(cell, shares(run, cell)) for cell in run.cells if cell.kind == kind]
        drawn = [(cell, pair) for cell, pair in drawn if any(pair)]
        if drawn:
            y = _group(body, y, title, drawn)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABELS + WIDTH + 70}" height="{y}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{INK}">'
    )
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return "\n".join([head, ground, *_legend(), *body, "</svg>"]) + "\n"


def _legend() -> list[str]:
    parts = []
    for x, color, name in ((20, OURS, "slotmux"), (110, THEIRS, "llama.cpp")):
        parts.append(f'<rect x="{x}" y="18" width="12" height="12" fill="{color}"/>')
        parts.append(f'<text x="{x + 18}" y="28">{name}</text>')
    return parts


def _group(
    body: list[str],
    y: int,
    title: str,
    drawn: list[tuple[Cell, tuple[float | None, float | None]]],
) -> int:
    """Append one group; returns where the next begins."""
    most = max(1.0, *(share or 0 for _, pair in drawn for share in pair))
    height = len(drawn) * (2 * BAR + GAP)
    body.append(f'<text x="20" y="{y}" font-size="14" font-weight="600">{title}</text>')
    y += 22
    for percent in range(0, int(100 * most) + 1, 25):
        x = LABELS + WIDTH * percent / (100 * most)
        color, stroke = (INK, 1.5) if percent == 100 else (GRID, 1)
        body.append(
            f'<line x1="{x:.1f}" y1="{y}" x2="{x:.1f}" y2="{y + height}" stroke="{color}" '
            f'stroke-width="{stroke}"/>'
        )
        body.append(f'<text x="{x:.1f}" y="{y - 5}" text-anchor="middle">{percent}</text>')
    for cell, pair in drawn:
        label = escape(f"{cell.model} {cell.type}  {cell.test}")
        body.append(f'<text x="{LABELS - 8}" y="{y + BAR + 5}" text-anchor="end">{label}</text>')
        for i, (share, color) in enumerate(zip(pair, (OURS, THEIRS), strict=True)):
            if share:
                body.append(_bar(y + 2 + i * BAR, share, most, color))
        y += 2 * BAR + GAP
    return y + 40


def _bar(y: int, share: float, most: float, color: str) -> str:
    width = WIDTH * share / most
    return (
        f'<rect x="{LABELS}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{color}"/>'
        f'<text x="{LABELS + width + 4:.1f}" y="{y + BAR - 1}" font-size="9">'
        f"{100 * share:.0f}</text>"
    )

"""With many rows, a product, its gated activation and the 8-bit form of that are one op."""

from __future__ import annotations

from typing import NoReturn

from slotmux.kernels.cpu import Isa
from slotmux.kernels.formats import FORMATS, PANEL_ROWS, Format
from slotmux.kernels.ops.dense.gated import (
    GATED,
    MOST_UNGATED,
    build_gated,
    can_gate,
    scratch_bytes,
)
from slotmux.kernels.ops.dense.linear import LINEAR
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.ops import Op


def gate_many_rows(ops: list[Op], isa: Isa, activation: str, out: Rows) -> None:
    """Have one op make ``out`` from the activations when there are many rows: the GLU that was
    appended last makes it of the product before it, and only 8-bit activations are wanted."""
    product, glu = ops[-2:]
    want_tiles = out.want_tiles
    if want_tiles is None or not _can_gate(isa, product, glu):
        return

    def tiles_by_either() -> int:
        tiles = want_tiles()
        if ops[-1] is glu and not glu.operands["out"]:
            ops.append(_gated(isa, activation, product, glu))
            product.operands["most_rows"] = glu.operands["most_rows"] = MOST_UNGATED
            out.want_floats = _too_late
        return tiles

    out.want_tiles = tiles_by_either


def _too_late() -> NoReturn:
    raise AssertionError("float rows are wanted of what is only made as 8-bit activations")


def _format(product: Op) -> Format:
    f: Format = FORMATS[product.kernel.removeprefix("linear.")]
    return f


def _can_gate(isa: Isa, product: Op, glu: Op) -> bool:
    """Whether ``product`` is all that ``glu`` reads, and there is a kernel for both."""
    if product.layout is not LINEAR:
        return False
    f, p, g = _format(product), product.operands, glu.operands
    is_all = all(any(w.covers(r) for w in product.writes) for r in glu.reads)
    is_plain = not p["accumulate"] and p["n_rows"] == g["n_rows"]
    n_inputs = int(p["n_blocks"]) * f.block_inputs
    return is_all and is_plain and can_gate(isa, f, n_inputs, int(g["n"]))


def _gated(isa: Isa, activation: str, product: Op, glu: Op) -> Op:
    """The op that does both for many rows."""
    f, p, g = _format(product), product.operands, glu.operands
    panel_bytes = f.panel_bytes(int(p["n_blocks"]) * f.block_inputs)

    def panels(rows: str) -> int:
        """Where the panels are that make a part of the product's outputs."""
        return int(p["w"]) + (int(g[rows]) - int(p["out"])) // (4 * PANEL_ROWS) * panel_bytes

    return Op(
        f"gated.{f.name}.{activation}",
        lambda: build_gated(isa, f.name, activation),
        GATED,
        {
            "gate": panels("gate"),
            "up": panels("up"),
            "x": p["x"],
            "n_rows": p["n_rows"],
            "n_panels": int(g["n"]) // PANEL_ROWS,
            "n_blocks": p["n_blocks"],
            "tiles": g["tiles"],
            "most_rows": MOST_UNGATED,
        },
        list(product.reads),
        list(glu.writes),
        scratch_bytes(f, int(p["n_blocks"]) * f.block_inputs),
    )

"""With many rows, a product, its gated activation and the 8-bit form of that are one op.

Few rows are faster with the ops apart, many with one for all: both are in the program, and each
does nothing at a step whose number of rows is the other's.
"""

from __future__ import annotations

from collections.abc import Sequence

from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import Op, Span, Tiles
from slotmux.kernels.ops.dense.gated import MOST_UNGATED, Gated, can_gate
from slotmux.kernels.ops.dense.glu import Glu
from slotmux.kernels.ops.dense.linear import Linear


def fuse_gated(ops: Sequence[Op], isa: Isa) -> list[Op]:
    """The ops, and behind each GLU that can be had so the one op that makes the same of the
    product's input. Of the GLU only 8-bit activations may be wanted, of the product nothing else.
    """
    out: list[Op] = []
    for i, op in enumerate(ops):
        out.append(op)
        if not isinstance(op, Glu) or op.out is not None or op.tiles is None or op.gate is None:
            continue
        product = _product(ops, i, op.gate.span, op.up.span)
        if product is not None and _can_fuse(isa, product, op):
            out.append(_gated(product, op))
            product.most_rows = op.most_rows = MOST_UNGATED
    return out


def _product(ops: Sequence[Op], i: int, gate: Span, up: Span) -> Linear | None:
    """The product that makes both inputs of op ``i``, if it does so for that op alone."""
    for product in reversed(ops[:i]):
        written = product.writes
        if _touch(written, gate) or _touch(written, up):
            break
    else:
        return None
    if not isinstance(product, Linear):
        return None
    whole = product.out.span
    if not (whole.covers(gate) and whole.covers(up)):
        return None
    for later in ops[i + 1 :]:
        if _touch(later.reads, whole):
            return None
        if any(span.covers(whole) for span in later.writes):
            break
    return product


def _touch(spans: Sequence[Span], other: Span) -> bool:
    return any(span.buffer == other.buffer and span.overlaps(other) for span in spans)


def _can_fuse(isa: Isa, product: Linear, glu: Glu) -> bool:
    is_plain = not product.add and product.n_rows == glu.n_rows and isinstance(product.x, Tiles)
    has_many = product.n_rows.most > MOST_UNGATED
    return is_plain and has_many and can_gate(isa, product.w.format, product.w.n_in, glu.n)


def _gated(product: Linear, glu: Glu) -> Gated:
    """The op that does both."""
    assert glu.gate is not None
    assert glu.tiles is not None
    assert isinstance(product.x, Tiles)
    gate, up = (
        product.w.outputs(part.start - product.out.start, part.width) for part in (glu.gate, glu.up)
    )
    op = Gated(activation=glu.activation, gate=gate, up=up, x=product.x, tiles=glu.tiles)
    op.part = glu.part
    return op

"""Which products, GLUs and 8-bit forms become one op for many rows."""

from __future__ import annotations

import pytest

from slotmux.kernels.cpu import Isa
from slotmux.kernels.ops.dense.gated import MOST_UNGATED, Gated
from slotmux.kernels.ops.dense.linear import ANY_ROWS
from slotmux.runtime.lowering.passes.forms import choose_forms
from slotmux.runtime.lowering.passes.gated import fuse_gated
from tests.runtime.lowering.listed import Listed, kernels

ISA = Isa.AVX512_VNNI


def ffn(most=128, kind="q8_0", n=64):
    """norm, gate and up in one product, GLU, down; and the gate and up."""
    listed = Listed(most)
    h = listed.norm(listed.rows("x"), "h")
    both = listed.linear(h, "gate_up", kind, 2 * n)
    gate, up = both.columns(0, n), both.columns(n, n)
    f = listed.glu(gate, up, "glu")
    listed.linear(f, "down")
    return listed, gate, up


def fused(listed, isa=ISA):
    return fuse_gated(choose_forms(listed.ops, listed.buffers, isa), isa)


def test_one_op_stands_behind_the_glu():
    listed, _, up = ffn()
    ops = fused(listed)
    assert kernels(ops) == [
        "rms_norm", "linear.q8_0", "glu.silu", "gated.q8_0.silu", "linear.q8_0",
    ]  # fmt: skip
    norm, product, glu, gated, down = ops
    assert isinstance(gated, Gated)
    assert gated.x is product.x is norm.tiles
    assert gated.tiles is glu.tiles is down.x
    assert gated.gate == product.w.outputs(0, 64)
    assert gated.up == product.w.outputs(up.start, 64)
    assert product.most_rows == glu.most_rows == gated.most_rows == MOST_UNGATED
    assert down.most_rows == ANY_ROWS


def up_twice(listed, gate, up):
    listed.glu(None, up, "more")


def floats_wanted(listed, gate, up):
    listed.norm(listed.rows("glu"), "more")


def nothing(listed, gate, up):
    pass


@pytest.mark.parametrize(
    ("options", "more", "isa"),
    [
        ({"most": MOST_UNGATED}, nothing, ISA),  # never many rows
        ({"kind": "f32"}, nothing, ISA),  # float weights
        ({"n": 48}, nothing, ISA),  # half a block of outputs
        ({}, nothing, Isa.PORTABLE),
        ({}, up_twice, ISA),  # another reads the product
        ({}, floats_wanted, ISA),  # floats of the GLU are read
    ],
)
def test_where_it_cannot_be(options, more, isa):
    listed, gate, up = ffn(**options)
    if options.get("n") == 48:
        listed.ops.pop()  # 48 inputs are no 8-bit activations
    more(listed, gate, up)
    assert not any(isinstance(op, Gated) for op in fused(listed, isa))


def test_not_of_two_products():
    listed = Listed()
    h = listed.norm(listed.rows("x"), "h")
    both = listed.rows("gate_up", 128)
    gate, up = both.columns(0, 64), both.columns(64, 64)
    listed.linear(h, gate)
    listed.linear(h, up)
    listed.linear(listed.glu(gate, up, "glu"), "down")
    assert not any(isinstance(op, Gated) for op in fused(listed))


def test_not_of_a_product_that_is_changed_before():
    listed, gate, _ = ffn()
    listed.ops.insert(2, listed.ops[0])  # writes h, which is nothing to it
    assert any(isinstance(op, Gated) for op in fused(listed))
    listed, gate, _ = ffn()
    listed.norm(listed.rows("y"), gate)
    listed.ops.insert(2, listed.ops.pop())
    assert not any(isinstance(op, Gated) for op in fused(listed))


def test_the_next_layer_may_read_the_same_buffer():
    listed, _, _ = ffn()
    again, _, _ = ffn()
    again.buffers = listed.buffers
    ops = [*listed.ops, *again.ops]
    ops = fuse_gated(choose_forms(ops, listed.buffers, ISA), ISA)
    assert sum(isinstance(op, Gated) for op in ops) == 2

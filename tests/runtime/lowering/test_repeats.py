"""What is computed once for all layers."""

from __future__ import annotations

import numpy as np

from slotmux.kernels.operands import Op, given
from slotmux.kernels.ops.attention.rope import RopeTable
from slotmux.runtime.lowering.passes.repeats import drop_repeats
from tests.runtime.lowering.listed import Listed


class Ends(Op, kernel="ends", changes_step=True):
    """A step that is changed."""

    n: int = given("a number")


def table(listed, name="rope", magnitude=1.0):
    frequency = listed.buffers.table("frequency", 4, np.float64).array
    cos, sin = (listed.buffers.table(f"{name}:{n}", 512, np.float32) for n in ("cos", "sin"))
    return RopeTable(frequency=frequency, magnitude=magnitude, cos=cos, sin=sin)


def test_the_same_table_is_made_once():
    listed = Listed()
    first, again, other = table(listed), table(listed), table(listed, "other")
    norm = listed.norm(listed.rows("x"), "h") and listed.ops[0]
    assert drop_repeats([first, norm, again, other]) == [first, norm, other]


def test_with_another_constant_it_is_another_and_overwrites_the_first():
    listed = Listed()
    ops = [table(listed), table(listed, magnitude=2.0), table(listed)]
    assert drop_repeats(ops) == ops


def test_of_another_step_it_is_made_again():
    listed = Listed()
    ops = [table(listed), Ends(n=1), table(listed)]
    assert drop_repeats(ops) == ops


def test_what_others_write_is_not_the_same_twice():
    listed = Listed()
    x = listed.rows("x")
    listed.norm(x, "h")
    listed.norm(x, "h")
    assert drop_repeats(listed.ops) == listed.ops


def test_an_op_that_writes_nothing_that_others_know_of_is_never_dropped():
    ops = [Ends(n=1), Ends(n=1)]
    assert drop_repeats(ops) == ops

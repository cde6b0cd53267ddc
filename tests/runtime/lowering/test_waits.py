"""Who waits for whom, against the plain definition on random lists."""

from __future__ import annotations

import numpy as np

from slotmux.kernels.operands import Op, given, reads, updates, writes
from slotmux.kernels.operands import Rows as R
from slotmux.runtime.lowering.passes.waits import derive_waits
from tests.runtime.lowering.listed import Listed


class Copy(Op, kernel="copy"):
    """out = x"""

    x: R = reads("float32")
    out: R = writes("float32")


class Change(Op, kernel="change"):
    """x = f(x)"""

    x: R = updates("float32")


class Advance(Op, kernel="advance", changes_step=True):
    """The next step."""

    n: int = given("a number")


def plain(ops):
    """An op waits for all since the last wait, if it has to wait for one of them."""
    waits, pending = [], 0
    for i, op in enumerate(ops):
        must = any(
            earlier.changes_step
            or op.changes_step
            or any(a.overlaps(b) for a in earlier.writes for b in [*op.reads, *op.writes])
            or any(a.overlaps(b) for a in earlier.reads for b in op.writes)
            for earlier in ops[pending:i]
        )
        waits.append(pending if must else -1)
        pending = i if must else pending
    return waits


def test_a_reader_waits_and_so_does_who_overwrites():
    listed = Listed()
    a, b, c = (listed.rows(name) for name in "abc")
    assert derive_waits([Copy(x=a, out=b), Copy(x=b, out=c)]) == [-1, 0]
    assert derive_waits([Copy(x=a, out=b), Copy(x=c, out=b)]) == [-1, 0]
    assert derive_waits([Copy(x=a, out=b), Copy(x=c, out=a)]) == [-1, 0]
    assert derive_waits([Copy(x=a, out=b), Copy(x=a, out=c)]) == [-1, -1]
    assert derive_waits([Copy(x=a, out=b), Change(x=a)]) == [-1, 0]


def test_columns_that_do_not_touch_do_not_wait():
    listed = Listed()
    a, b = listed.rows("a", 128), listed.rows("b", 128)
    parts = [rows.columns(i, 64) for rows in (a, b) for i in (0, 64)]
    low, high = Copy(x=parts[0], out=parts[2]), Copy(x=parts[1], out=parts[3])
    assert derive_waits([low, high]) == [-1, -1]
    assert derive_waits([low, high, Copy(x=b, out=listed.rows("c", 128))]) == [-1, -1, 0]
    odd = Copy(x=a.columns(0, 65), out=b.columns(0, 65))  # padded to 16 columns
    assert derive_waits([odd, Copy(x=a.columns(64, 64), out=b.columns(64, 64))]) == [-1, 0]


def test_a_changed_step_is_between_all_before_and_all_after():
    listed = Listed()
    a, b, c, d = (listed.rows(name) for name in "abcd")
    ops = [Copy(x=a, out=b), Advance(n=1), Copy(x=c, out=d), Advance(n=2)]
    assert derive_waits(ops) == [-1, 0, 1, 2]


def test_random_lists():
    rng, listed = np.random.default_rng(0), Listed()
    rows = [listed.rows(name, 128) for name in "abc"]
    parts = [*rows, *(r.columns(i, 64) for r in rows for i in (0, 64))]
    pick = lambda: parts[rng.integers(len(parts))]  # noqa: E731
    seen = set()
    for _ in range(300):
        ops = []
        for kind in rng.integers(0, 10, 12):
            if kind == 9:
                ops.append(Advance(n=1))
            else:
                ops.append(Change(x=pick()) if kind > 6 else Copy(x=pick(), out=pick()))
        waits = derive_waits(ops)
        assert waits == plain(ops)
        seen.add(tuple(waits))
    assert len(seen) > 50

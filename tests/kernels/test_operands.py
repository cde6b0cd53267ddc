"""What follows from the declaration of an op, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    Activations,
    Cells,
    Count,
    Form,
    Op,
    Rows,
    Span,
    State,
    StatePool,
    Table,
    Tiles,
    Vector,
    compiled,
    given,
    keeps,
    offsets,
    reads,
    tiles_of,
    updates,
    word,
    writes,
)

COUNT = Count(4096, 40)


class Sample(Op, kernel="sample"):
    """One field of each kind."""

    flavour: str = compiled("sweet or sour")
    x: Activations = reads("rows")
    gate: Rows | None = reads("rows", default=None)
    up: Rows = reads("rows as far apart as those of x", stride_of="gate")
    ids: Table[np.int32] = updates("a table")
    cells: Cells = reads("cells")
    weight: Vector | None = given("a vector")
    eps: float = given("a constant")
    factor: float = given("another", default=2.0)
    add: bool = given("a flag", default=False)
    out: Rows | None = writes("rows", reads_if="add")
    tiles: Tiles | None = tiles_of("out")
    state: State | None = keeps("a state")

    @word
    def n(self) -> int:
        """Width."""
        return self.x.width

    @word
    def n_rows(self) -> Count:
        """Rows."""
        return self.x.n_rows

    @property
    def form(self) -> Form:
        return "tiles"

    @property
    def state_floats(self) -> int:
        return 3 * self.n

    def build(self, isa: Isa):
        return lambda op, step, thread: None


SAMPLE = offsets(Sample)


def rows(name: str, width: int = 20, n_rows: Count = COUNT) -> Rows:
    """Rows at an address that tells them apart."""
    return Rows(name, 1000 * ord(name[0]), width, 128, n_rows)


def sample(**changes: object) -> Sample:
    """An op with all that it needs."""
    operands: dict[str, object] = {
        "flavour": "sweet", "x": rows("x"), "up": rows("u"), "weight": None, "eps": 1e-5,
        "ids": Table("ids", np.zeros(4, np.int32)), "cells": Cells(3, 11, 22, "f16", "q8_0"),
        "out": rows("o"),
    }  # fmt: skip
    return Sample(**(operands | changes))  # type: ignore[arg-type]


def values(op: Op) -> dict[str, int]:
    """The words by name."""
    return dict(zip(op.word_names(), op.words().tolist(), strict=False))


def test_words_follow_from_the_fields():
    weight = np.ones(20, np.float32)
    op = sample(weight=weight, gate=rows("g"), add=True)
    op.state = State(StatePool(1 << 20, 640), 256, 60, 240)
    op.tiles = Tiles("t", 77, 20, COUNT)
    found = values(op)
    assert found.pop("eps") != found.pop("factor")
    assert found == {
        "x": 120000, "x_stride": 128, "gate": 103000, "gate_stride": 128, "up": 117000,
        "ids": op.ids.address, "k_cells": 11, "v_cells": 22, "weight": weight.ctypes.data,
        "add": 1, "out": 111000, "out_stride": 128, "tiles": 77,
        "rows": (1 << 20) + 256, "row_stride": 640, "pending": 240, "n": 20, "n_rows": 4096,
    }  # fmt: skip
    assert SAMPLE._fields == tuple(op.word_names())
    assert list(SAMPLE) == [8 * i for i in range(len(SAMPLE))]


def test_what_is_none_is_0():
    op = sample(out=None)
    op.state = State(StatePool(1, 1), 0, 0, 0)
    found = values(op)
    names = ("gate", "gate_stride", "weight", "out", "out_stride", "tiles", "add")
    assert [found[name] for name in names] == [0] * 7


def test_constants_stand_behind_the_words():
    op = sample(eps=0.1)
    op.state = State(StatePool(1, 1), 0, 0, 0)
    words = op.words()
    for name, value in (("eps", 0.1), ("factor", 2.0)):
        at = words[getattr(SAMPLE, name) // 8] - words.ctypes.data
        assert len(SAMPLE) * 8 <= at < words.nbytes
        assert words.view(np.float32)[at // 4] == np.float32(value)


def test_tiles_in_the_place_of_rows_have_no_stride():
    op = sample(x=Tiles("t", 5, 32, COUNT))
    op.state = State(StatePool(1, 1), 0, 0, 0)
    found = values(op)
    assert (found["x"], found["x_stride"], found["n"]) == (5, 0, 32)


def test_reads_and_writes_follow_too():
    op, counted = sample(), Count(64, 8, Span("counts"))
    o, ids, x, u, cells = (Span("o", 0, 32), Span("ids"), Span("x", 0, 32), Span("u", 0, 32),
                           Span("cells3"))  # fmt: skip
    assert op.reads == [x, u, ids, cells]
    assert op.writes == [ids, o]
    assert sample(add=True).reads == [x, u, ids, cells, o]
    op.tiles, op.out = Tiles("t", 77, 20, COUNT), None
    assert op.writes == [ids, Span("t")]
    op.state = State(StatePool(), 256, 60, 240)
    assert Span("rows", 256, 496) in op.reads
    assert Span("rows", 256, 496) in op.writes
    assert Span("counts") in sample(x=rows("x", 20, counted)).reads


def test_passes_are_told_of_rows_by_form():
    op = sample(add=True)
    assert list(op.rows_read()) == [
        ("x", op.x, "tiles"), ("up", op.up, "floats"), ("out", op.out, "floats"),
    ]  # fmt: skip
    assert list(op.rows_written()) == [("out", op.out)]
    assert op.tiles_field("out") == "tiles"
    assert op.tiles_field("x") is None
    assert op.may_omit("out")
    assert not op.may_omit("up")
    assert op.state_field() == "state"
    assert op.state_floats == 60


def test_the_name_tells_what_is_compiled_in():
    assert sample().kernel == "sample.sweet"
    assert sample(flavour="sour").kernel == "sample.sour"
    assert sample().builder(Isa.PORTABLE).__module__ == __name__


def test_a_missing_operand_is_refused():
    with pytest.raises(TypeError, match="'up'"):
        Sample(flavour="sweet", x=rows("x"), weight=None, eps=1.0, out=None,
               ids=Table("ids", np.zeros(4, np.int32)),
               cells=Cells(0, 1, 2, "f16", "f16"))  # type: ignore[call-arg]  # fmt: skip
    with pytest.raises(TypeError, match="more"):
        sample(more=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", 4096),  # an address is no rows
        ("x", None),
        ("up", Tiles("t", 1, 32, COUNT)),  # floats are needed
        ("ids", Table("ids", np.zeros(4, np.int64))),
        ("ids", np.zeros(4, np.int32)),  # nobody would wait for it
        ("weight", np.zeros(4)),  # float64
        ("weight", [1.0]),
        ("eps", "1e-5"),
        ("flavour", 3),
    ],
)
def test_an_operand_of_another_type_is_refused(name, value):
    with pytest.raises(TypeError, match=rf"Sample\.{name}: .* is not what it takes"):
        sample(**{name: value})


def test_rows_that_share_a_stride_must_have_it():
    other = Rows("g", 1, 20, 256, COUNT)
    op = sample(gate=other)
    with pytest.raises(AssertionError):
        op.words()


def test_a_state_whose_rows_were_not_made_has_no_address():
    op = sample()
    op.state = State(StatePool(), 256, 60, 240)
    with pytest.raises(AssertionError, match="not made"):
        op.words()


def test_ops_that_do_the_same_are_identical():
    class Plain(Op, kernel="plain"):
        """Two numbers and an array."""

        n: int = given("a number")
        c: float = given("a constant")
        v: NDArray[np.float64] = given("a vector")

    v = np.zeros(3)
    op = Plain(n=1, c=2.0, v=v)
    assert op.identity() == Plain(n=1, c=2.0, v=v).identity()
    for other in (Plain(n=2, c=2.0, v=v), Plain(n=1, c=2.5, v=v), Plain(n=1, c=2.0, v=v.copy())):
        assert op.identity() != other.identity()

"""Which ops write rows as floats, which as 8-bit activations, and where a form is made apart."""

from __future__ import annotations

import pytest

from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import Narrowed, Tiles
from slotmux.runtime.lowering.passes.forms import choose_forms
from tests.runtime.lowering.listed import Listed, kernels


def chosen(listed, isa=Isa.PORTABLE, kept=()):
    return choose_forms(listed.ops, listed.buffers, isa, kept)


def test_a_producer_writes_what_products_take():
    listed = Listed()
    h = listed.norm(listed.rows("x"), "h")
    listed.linear(h, "a")
    listed.linear(h, "b")
    norm, first, second = chosen(listed)
    assert norm.out is None
    assert isinstance(norm.tiles, Tiles)
    assert first.x is second.x is norm.tiles
    assert norm.words()[norm_word(norm, "out")] == 0
    assert norm.words()[norm_word(norm, "tiles")] == norm.tiles.address == first.x.address


def norm_word(op, name):
    return list(op.word_names()).index(name)


def test_it_writes_floats_too_where_another_reads_them():
    listed = Listed()
    h = listed.norm(listed.rows("x"), "h")
    listed.linear(h, "a")
    listed.linear(h, "b", "f32")
    norm, quantised, floats = chosen(listed)
    assert norm.out == h
    assert quantised.x is norm.tiles
    assert floats.x == h


def test_float_products_have_floats_only():
    listed = Listed()
    h = listed.norm(listed.rows("x"), "h")
    listed.linear(h, "a", "f16")
    norm, product = chosen(listed)
    assert norm.out == product.x == h
    assert norm.tiles is None


def test_a_form_that_nobody_can_write_is_made_once_behind_the_last_writer():
    listed = Listed()
    x = listed.linear(listed.rows("in"), "x", "f32")
    listed.norm(listed.rows("else"), "other")
    listed.linear(x, "a")
    listed.linear(x, "b")
    ops = chosen(listed)
    assert kernels(ops) == ["linear.f32", "quantize", "rms_norm", "linear.q8_0", "linear.q8_0"]
    assert ops[1].x == x
    assert ops[3].x is ops[4].x is ops[1].tiles


def test_of_rows_from_outside_before_the_first_reader():
    listed = Listed()
    x = listed.rows("x")
    listed.norm(x, "h")
    listed.linear(x, "a")
    assert kernels(chosen(listed)) == ["rms_norm", "quantize", "linear.q8_0"]


def test_a_part_of_the_columns_is_not_the_whole():
    listed = Listed()
    h = listed.norm(listed.rows("x", 128), "h")
    listed.linear(h.columns(64, 64), "a")
    norm, quantize, product = chosen(listed)
    assert norm.out == h
    assert norm.tiles is None
    assert quantize.x == h.columns(64, 64)
    assert product.x is quantize.tiles


def test_rows_of_two_writers_are_quantised_behind_both():
    listed = Listed()
    both = listed.rows("both", 128)
    listed.norm(listed.rows("x"), both.columns(0, 64))
    listed.norm(listed.rows("y"), both.columns(64, 64))
    listed.linear(both, "a")
    ops = chosen(listed)
    assert kernels(ops) == ["rms_norm", "rms_norm", "quantize", "linear.q8_0"]
    assert ops[0].out is not None
    assert ops[1].out is not None


def test_what_was_overwritten_is_made_anew():
    listed = Listed()
    x = listed.linear(listed.rows("in"), "x", "f32")
    listed.linear(x, "a")
    listed.linear(listed.rows("in"), x, "f32", add=True)
    listed.linear(x, "b")
    names = ["linear.f32", "quantize", "linear.q8_0"]
    assert kernels(chosen(listed)) == names * 2


def test_a_norm_that_adds_reads_floats_and_writes_no_tiles():
    listed = Listed()
    x = listed.norm(listed.rows("in"), "x")
    listed.norm(listed.rows("y"), x, add=True)
    listed.linear(x, "a")
    first, second, quantize, product = chosen(listed)
    assert first.out == second.out == x
    assert second.tiles is None
    assert product.x is quantize.tiles


@pytest.mark.parametrize("isa", [Isa.PORTABLE, Isa.AVX512_BF16])
def test_rows_for_bf16_weights_are_rounded_once(isa):
    listed = Listed()
    h = listed.norm(listed.rows("x", 48), "h")
    listed.linear(h, "a", "bf16")
    listed.linear(h, "b", "bf16")
    norm, narrow, first, second = chosen(listed, isa)
    assert norm.out == narrow.x == h
    assert isinstance(narrow.out, Narrowed)
    assert first.x is second.x is narrow.out
    assert narrow.out.width == (32 if isa is Isa.AVX512_BF16 else 48)


def test_what_no_op_reads_is_a_result():
    listed = Listed()
    h = listed.norm(listed.rows("x"), "h")
    (norm,) = chosen(listed)
    assert norm.out == h


def test_what_is_kept_is_written():
    listed = Listed()
    h = listed.norm(listed.rows("x"), "h")
    listed.linear(h, "a")
    norm, _ = chosen(listed, kept={h.buffer})
    assert norm.out == h
    assert norm.tiles is not None


def test_an_op_that_makes_a_form_is_of_the_part_that_made_the_rows():
    listed = Listed()
    x = listed.linear(listed.rows("in"), "x", "f32")
    listed.ops[0].part = "body"
    listed.linear(x, "a")
    listed.ops[1].part = "tail"
    assert [op.part for op in chosen(listed)] == ["body", "body", "tail"]


def test_the_last_op_that_writes_rows_makes_their_form():
    listed = Listed()
    x = listed.norm(listed.rows("in"), "x")
    listed.norm(listed.rows("y"), x)
    listed.linear(x, "a")
    first, second, product = chosen(listed)
    assert first.out == x, "nobody has read it, so it stays as it was"
    assert second.out is None
    assert product.x is second.tiles

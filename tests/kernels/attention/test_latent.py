"""Latent attention: over its cells against softmax attention in float64, products of heads."""

import numpy as np
import pytest

from slotmux.kernels.activations import tile_bytes
from slotmux.kernels.float_tile import rounds_rows, takes_bf16
from slotmux.kernels.formats import FORMATS
from slotmux.kernels.operands import STEP, fill
from slotmux.kernels.ops.attention.latent import HEADS, build_heads
from slotmux.kernels.team import aligned_zeros
from tests.kernels.attention.test_attention import LENGTHS, TYPES, Case, Side, assert_twin
from tests.kernels.conftest import usable_isas
from tests.kernels.dense.panels import (
    bf16_rows,
    bf16_values,
    pack,
    product,
    quantise,
    random_file,
    run,
)


class LatentCase(Case):
    """One KV head whose first ``latent`` dimensions are its values, in cells of one layout."""

    def __init__(self, lengths, n_head, latent, rope, cell_type, capacity):
        self.latent, self.rope = latent, rope
        width = -(-(latent + rope) // 16) * 16
        super().__init__(lengths, n_head, 1, width, 0, (cell_type, "latent"), capacity)

    def sides(self, cell_types):
        """K's and V's memory: one."""
        side = LatentSide(cell_types[0], 1, self.d, False)
        side.n_used = self.latent + self.rope
        return side, side

    @property
    def v_dim(self):
        return self.latent

    def expected(self):
        for k, v in self.kv:
            k[:] = v  # which was written into the cells last
        return super().expected()


class LatentSide(Side):
    """Cells that hold zeros behind what a token has."""

    n_used = 0

    def put(self, block, cell, rows):
        rows = rows.copy()
        rows[:, self.n_used :] = 0.0
        return super().put(block, cell, rows)


@pytest.mark.parametrize("cell_type", [kind for kind in TYPES if kind != "i16"])
@pytest.mark.parametrize(("n_head", "latent", "rope"), [(1, 64, 32), (5, 96, 32), (20, 512, 64)])
def test_latent_attention_equals_its_twin(team_of, cell_type, n_head, latent, rope):
    for capacity in (0, 2000):
        assert_twin(
            team_of("auto", 3), LatentCase(LENGTHS, n_head, latent, rope, cell_type, capacity)
        )


@pytest.mark.parametrize(("latent", "rope"), [(24, 8), (56, 8), (40, 6)])
def test_latents_that_are_no_multiple_of_a_vector(team_of, latent, rope):
    assert_twin(team_of("auto", 2), LatentCase(LENGTHS, 3, latent, rope, "f16", 300))


def test_the_same_bits_split_or_not_on_every_instruction_set(team_of):
    runs = [
        LatentCase(LENGTHS, 6, 56, 8, "f16", capacity).run(team_of(isa, n_threads))
        for isa in usable_isas()
        for capacity, n_threads in ((500, 1), (60, 3), (0, 2))
    ]
    for other in runs[1:]:
        assert np.array_equal(runs[0], other)


@pytest.mark.parametrize("name", ["f32", "f16", "bf16", "q8_0", "q4_k"])
@pytest.mark.parametrize(("n_heads", "n_in", "n_out"), [(1, 256, 16), (3, 256, 40), (5, 512, 9)])
@pytest.mark.parametrize("n_tokens", [1, 5, 70])
def test_a_heads_product_is_that_of_its_matrix(team_of, name, n_heads, n_in, n_out, n_tokens):
    """Bit for bit: the same tiles over a part of the rows."""
    team, rng, f = team_of("auto", 2), np.random.default_rng(n_in), FORMATS[name]
    isa = team.kernels.cpu.isa
    panels = [pack(team, name, random_file(name, n_out, n_in, rng), n_in) for _ in range(n_heads)]
    w = aligned_zeros(sum(each.nbytes for each in panels))
    w[:] = np.concatenate(panels)
    x = np.zeros((-(-n_tokens // 8) * 8, n_heads * n_in), np.float32)
    x[:n_tokens] = rng.standard_normal((n_tokens, n_heads * n_in))
    source, size = x, 4
    if f.is_quantised:
        source = quantise(team, x)
    elif takes_bf16(isa, f):
        source, size = bf16_rows(x), 2
    elif rounds_rows(f):
        source = bf16_values(x)
    width = -(-n_out // 16) * 16
    out = np.full((len(x) + 1, n_heads * width), np.nan, np.float32)
    step = np.zeros(len(STEP._fields), np.int64)
    step[STEP.n_tokens // 8] = n_tokens
    op = fill(
        HEADS, w=w, head_bytes=panels[0].nbytes, n_heads=n_heads, n_panels=width // 16,
        n_blocks=n_in // f.block_inputs, x=source, x_stride=size * n_heads * n_in,
        x_head=tile_bytes(n_in) if f.is_quantised else size * n_in,
        x_tile=tile_bytes(n_heads * n_in), out=out, out_stride=4 * n_heads * width,
        out_width=width,
    )  # fmt: skip
    run(team, [(f"heads.{name}", lambda: build_heads(isa, name), op)], w, source, out, step=step)
    assert np.isnan(out[len(x)]).all()
    for head, own in enumerate(panels):
        part = np.ascontiguousarray(x[:n_tokens, head * n_in : (head + 1) * n_in])
        want = product(team, name, own, part, n_out)
        assert np.array_equal(out[:n_tokens, head * width : head * width + n_out], want)

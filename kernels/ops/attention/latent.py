"""Multi-head latent attention in absorbed form: what stands before and behind attention itself.

A cell keeps a token's normed latent c and a rotated key k_pe that all heads share. With k_h = B_h c
and v_h = V_h c (DeepSeek-V2 2024, section 2.1), B_h goes to the query and V_h to the result:

    score = (B_h^T q_nope) . c + q_pe . k_pe        out_h = V_h (sum over positions of p c)

so that attention reads cells of one KV head. A block of cells is as V's (cells.py): [16 cells]
[latent, k_pe, zeros up to a multiple of 16], with its scales behind.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.activations import TILE_ROWS, tile_bytes
from slotmux.kernels.address import load_f32, load_i32, load_i64, store_f32
from slotmux.kernels.claims import claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.float_tile import form_of
from slotmux.kernels.formats import FORMATS
from slotmux.kernels.formats.panels import Experts
from slotmux.kernels.operands import (
    STEP,
    Activations,
    Cells,
    Form,
    Op,
    Rows,
    Table,
    Tiles,
    Vector,
    given,
    offsets,
    reads,
    updates,
    word,
    writes,
)
from slotmux.kernels.ops.attention.cells import (
    CELL_BYTES,
    CELLS,
    GROUP,
    build_head_bytes,
    build_writer,
)
from slotmux.kernels.ops.attention.plan import block_table, seq_of
from slotmux.kernels.ops.attention.rope import norm_head, rotate_neighbours
from slotmux.kernels.ops.dense.elementwise import sigmoid
from slotmux.kernels.ops.dense.linear import build_panels_times_rows

TOKEN_BLOCK = 64  # tokens that a chunk of a product takes


class LatentPart(Op, kernel="latent_part"):
    """out = scale times the part of every head's q that latents are scored with"""

    q: Rows = reads("float32 [n_tokens, n_head * (nope + rope)]")
    n_head: int = given("query heads")
    nope: int = given("dimensions of a head that are not rotated")
    rope: int = given("dimensions that are")
    scale: float = given("float32")
    out: Rows = writes("float32 [n_tokens, n_head * nope]")

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_latent_part()


class TimesHeads(Op, kernel="heads"):
    """out = x w^T, every head's own matrix and its own part of x"""

    w: Experts = given("weights [n_heads, n_out, n_in]; their format is compiled in")
    x: Activations = reads("[n_tokens, n_heads * n_in], in the form that the format takes")
    out: Rows = writes("float32 [n_tokens in whole tiles, n_heads * out_width]")
    out_width: int = given("columns of a head's outputs, whole panels")

    @word
    def head_bytes(self) -> int:
        """From a head's panels to the next one's."""
        return self.w.expert_bytes

    @word
    def n_heads(self) -> int:
        """How many matrices."""
        return self.w.n_expert

    @word
    def n_panels(self) -> int:
        """Panels of a head."""
        return self.w.n_panels

    @word
    def n_blocks(self) -> int:
        """Blocks of a panel."""
        return self.w.n_blocks

    @word
    def x_head(self) -> int:
        """Bytes from a head's inputs to the next one's."""
        n_in = self.w.n_in
        if isinstance(self.x, Tiles):
            return tile_bytes(n_in)
        is_packed = self.x.width < n_in * self.w.n_expert  # two columns in a float's place
        return (2 if is_packed else 4) * n_in

    @word
    def x_tile(self) -> int:
        """Bytes of a tile of all heads' inputs."""
        return tile_bytes(self.w.n_in * self.w.n_expert)

    @property
    def form(self) -> Form:
        return form_of(self.w.format)

    @property
    def variant(self) -> tuple[str]:
        return (self.w.format.name,)

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_heads(isa, self.w.format.name)


class LatentStore(Op, kernel="latent_store"):
    """kv normed and rotated into the cells of its tokens; q's rotated part, times scale, and zeros
    into what queries lack"""

    q: Rows | None = reads("float32 [n_tokens, n_head * (nope + rope)]; None: only cells")
    query: Rows | None = updates("float32 [n_tokens, n_head * width], filled from latent on")
    kv: Rows = updates("float32 [n_tokens, latent + rope]")
    n_head: int = given("query heads")
    nope: int = given("dimensions of a head's q that are not rotated")
    rope: int = given("dimensions that are")
    latent: int = given("dimensions of a latent")
    width: int = given("floats of a cell: latent + rope, rounded up to 16")
    norm: Vector = given("float32 [latent]")
    eps: float = given("float32, of the norm")
    scale: float = given("float32")
    n_pairs: int = given("rotated pairs; 0: no rotation")
    cos: Table[np.float32] | None = reads("see RopeTable; None: no rotation")
    sin: Table[np.float32] | None = reads("see RopeTable; None: no rotation")
    cells: Cells = writes("the layer's; their type is compiled in")

    @property
    def variant(self) -> tuple[str]:
        return (self.cells.k_type,)

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_latent_store(self.cells.k_type)


class JoinHeads(Op, kernel="join_heads"):
    """out = heads of x side by side, each times sigmoid(gate)"""

    x: Rows = reads("float32 [n_tokens, n_head * x_width]")
    x_width: int = given("columns from a head to the next one")
    n_head: int = given("heads")
    n: int = given("columns of a head")
    gate: Rows | None = reads("float32 [n_tokens, n_head]; None: no gate")
    out: Rows = writes("float32 [n_tokens, n_head * n]")

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_join_heads()


PART, HEADS, STORE, JOIN = (offsets(op) for op in (LatentPart, TimesHeads, LatentStore, JoinHeads))


@njit(forceinline=True)
def _copy_scaled(x, n, scale, out):
    """out = scale * x, n floats and none beyond."""
    factor = simd.splat(scale)
    for i in range(0, n - 15, 16):
        simd.store(out + 4 * i, simd.load(x + 4 * i) * factor)
    for i in range(n // 16 * 16, n):
        store_f32(out + 4 * i, load_f32(x + 4 * i) * scale)


def build_latent_part() -> Callable[..., None]:
    """The part of queries that latents are scored with, side by side; a chunk is a token."""

    def latent_part(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            nope, rope = load_i64(op + PART.nope), load_i64(op + PART.rope)
            scale = load_f32(load_i64(op + PART.scale))
            q = load_i64(op + PART.q) + token * load_i64(op + PART.q_stride)
            out = load_i64(op + PART.out) + token * load_i64(op + PART.out_stride)
            for head in range(load_i64(op + PART.n_head)):
                _copy_scaled(q + 4 * head * (nope + rope), nope, scale, out + 4 * head * nope)
            token = claim(thread, n_tokens)

    return latent_part


def build_heads(isa: Isa, format_name: str) -> Callable[..., None]:
    """Every head's own matrix times its part of the rows; a chunk is a head and some tokens."""
    f = FORMATS[format_name]
    panels_times_rows = build_panels_times_rows(isa, format_name, compact=False)
    quantised = f.is_quantised

    @njit
    def rows_of_head(op, head, token, n_rows):
        n_panels, n_blocks = load_i64(op + HEADS.n_panels), load_i64(op + HEADS.n_blocks)
        x_stride, out_stride = load_i64(op + HEADS.x_stride), load_i64(op + HEADS.out_stride)
        w = load_i64(op + HEADS.w) + head * load_i64(op + HEADS.head_bytes)
        x = load_i64(op + HEADS.x) + head * load_i64(op + HEADS.x_head)
        out = load_i64(op + HEADS.out) + head * 4 * load_i64(op + HEADS.out_width)
        if not quantised:
            x, last = x + token * x_stride, x + (token + (n_rows - 1) // 8 * 8) * x_stride
            panels_times_rows(
                w, n_panels, x, n_rows, last, n_blocks, x_stride, out + token * out_stride,
                out_stride, 0, np.int64(0),
            )  # fmt: skip
            return
        # Between a head's blocks in two tiles stand those of all other heads.
        for first in range(token, token + n_rows, TILE_ROWS):
            x_t = x + first // TILE_ROWS * load_i64(op + HEADS.x_tile)
            n = min(np.int64(TILE_ROWS), token + n_rows - first)
            panels_times_rows(
                w, n_panels, x_t, n, x_t, n_blocks, x_stride, out + first * out_stride,
                out_stride, 0, np.int64(0),
            )  # fmt: skip

    def heads(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens, n_heads = load_i64(step + STEP.n_tokens), load_i64(op + HEADS.n_heads)
        n_parts = (n_tokens + TOKEN_BLOCK - 1) // TOKEN_BLOCK
        n_chunks = n_heads * n_parts
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            token = chunk % n_parts * TOKEN_BLOCK
            rows_of_head(op, chunk // n_parts, token, min(np.int64(TOKEN_BLOCK), n_tokens - token))
            chunk = claim(thread, n_chunks)

    return heads


def build_latent_store(cell_type: str) -> Callable[..., None]:
    """Rotate, complete the queries, norm the latent and write the cell; a chunk is a token."""
    write, bytes_of = build_writer(cell_type), build_head_bytes(cell_type)
    size = CELL_BYTES[cell_type]

    @njit
    def rotate(op, x, token):
        n_pairs = load_i64(op + STORE.n_pairs)
        if n_pairs > 0:
            at = 4 * token * n_pairs
            rotate_neighbours(
                x, n_pairs, load_i64(op + STORE.cos) + at, load_i64(op + STORE.sin) + at
            )

    @njit
    def complete_queries(op, token):
        nope, rope = load_i64(op + STORE.nope), load_i64(op + STORE.rope)
        width, latent = load_i64(op + STORE.width), load_i64(op + STORE.latent)
        scale = load_f32(load_i64(op + STORE.scale))
        q = load_i64(op + STORE.q) + token * load_i64(op + STORE.q_stride) + 4 * nope
        query = load_i64(op + STORE.query) + token * load_i64(op + STORE.query_stride)
        for head in range(load_i64(op + STORE.n_head)):
            to = query + 4 * (head * width + latent)
            _copy_scaled(q + 4 * head * (nope + rope), rope, scale, to)
            rotate(op, to, token)
            for i in range(rope, width - latent):
                store_f32(to + 4 * i, np.float32(0.0))

    @njit
    def store_token(op, step, token):
        rope, width, latent = (
            load_i64(op + STORE.rope),
            load_i64(op + STORE.width),
            load_i64(op + STORE.latent),
        )
        kv = load_i64(op + STORE.kv) + token * load_i64(op + STORE.kv_stride)
        norm_head(kv, latent, load_i64(op + STORE.norm), load_f32(load_i64(op + STORE.eps)))
        rotate(op, kv + 4 * latent, token)
        pos = load_i32(load_i64(step + STEP.positions) + 4 * token)
        block = load_i32(block_table(step, seq_of(step, token)) + 4 * (pos // CELLS))
        cell = pos % CELLS
        at = load_i64(op + STORE.k_cells) + block * bytes_of(width)
        scales = at + CELLS * width + 2 * cell * (width // GROUP)
        write(kv, latent + rope, at + cell * width * size, 1, scales, 1, width)

    def latent_store(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            complete_queries(op, token)
            store_token(op, step, token)
            token = claim(thread, n_tokens)

    return latent_store


def build_join_heads() -> Callable[..., None]:
    """Heads side by side, each times its gate; a chunk is a token."""

    def join_heads(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            n, gate = load_i64(op + JOIN.n), load_i64(op + JOIN.gate)
            x = load_i64(op + JOIN.x) + token * load_i64(op + JOIN.x_stride)
            out = load_i64(op + JOIN.out) + token * load_i64(op + JOIN.out_stride)
            for head in range(load_i64(op + JOIN.n_head)):
                factor = np.float32(1.0)
                if gate != 0:
                    gates = gate + token * load_i64(op + JOIN.gate_stride)
                    factor = simd.first(sigmoid(simd.splat(load_f32(gates + 4 * head))))
                at = x + 4 * head * load_i64(op + JOIN.x_width)
                _copy_scaled(at, n, factor, out + 4 * head * n)
            token = claim(thread, n_tokens)

    return join_heads

"""The attention block of a layer: rotation, storing into cells, attention, folding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slotmux.kernels.operands import Cells, Rows, Table, Vector, round_up
from slotmux.kernels.ops.attention.attention import Attention
from slotmux.kernels.ops.attention.fold import AttentionFold
from slotmux.kernels.ops.attention.plan import SPLIT_TOKENS, AttentionPlan
from slotmux.kernels.ops.attention.rope import Rope, RopeTable
from slotmux.kernels.ops.attention.tiles import CHUNK
from slotmux.runtime.lowering.builder import Builder

# Most memory for the partial results of split sequences: those of four tokens behind 262,144 cells
# with 16 heads of 256. Pages that no step has needed are not there.
PARTIALS_BYTES = 192 << 20


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotary embedding: float64 angle per position of each pair, and how pairs are laid out."""

    frequencies: tuple[float, ...]
    neighbours: bool = False  # pairs (2i, 2i + 1) rather than halves
    magnitude: float = 1.0  # of cos and sin


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """One layer's attention. ``window`` 0: all positions; else the last ``window`` of them, below 0
    those since the last multiple of -``window``;
    ``cells_of``: the layer whose cells it reads, if not its own."""

    layer: int
    n_head: int
    n_head_kv: int
    head_dim: int
    v_dim: int
    scale: float
    rotation: Rotation | None
    eps: float = 0.0
    window: int = 0
    softcap: float = 0.0  # scores become softcap * tanh(score / softcap), 0: they stay
    cells_of: int = -1

    @property
    def cells_layer(self) -> int:
        """The layer whose cells are read."""
        return self.layer if self.cells_of < 0 else self.cells_of

    @property
    def qkv_sizes(self) -> tuple[int, int, int]:
        """Widths of q, k and v."""
        n_kv = self.n_head_kv
        return self.n_head * self.head_dim, n_kv * self.head_dim, n_kv * self.v_dim


@dataclass(frozen=True, slots=True)
class Choice:
    """The blocks of ``ratio`` positions that each token attends to: see
    kernels/ops/attention/choice.py."""

    bits: Table[np.uint8]
    row_bytes: int
    ratio: int


def rope_table(b: Builder, rotation: Rotation) -> tuple[Table[np.float32], Table[np.float32]]:
    """cos and sin of the step's tokens. All layers that share a rotation ask for the same op."""
    n_pairs = len(rotation.frequencies)
    name = f"rope{hash((rotation.frequencies, rotation.magnitude)) & 0xFFFFFFFFFFFF:x}"
    frequency = b.buffers.table(f"{name}:frequencies", n_pairs, np.float64)
    frequency.array[:] = rotation.frequencies
    cos, sin = (
        b.buffers.table(f"{name}:{part}", b.buffers.n_rows * n_pairs, np.float32)
        for part in ("cos", "sin")
    )
    b.append(RopeTable(frequency=frequency.array, magnitude=rotation.magnitude, cos=cos, sin=sin))
    return cos, sin


def rotate_and_store(
    b: Builder,
    shape: AttentionShape,
    q: Rows,
    k: Rows | None,
    v: Rows | None,
    q_norm: Vector | None = None,
    k_norm: Vector | None = None,
    v_norm: Vector | None = None,
    *,
    norms_last: bool = False,
) -> None:
    """Norm, rotate (with ``norms_last`` the other way round) and scale q and k in place; k and v
    (normed only) go into the layer's cells, unless it reads another's and has neither."""
    assert (k is None) == (v is None) == (shape.cells_of >= 0)
    rotation = shape.rotation
    cos, sin = (None, None) if rotation is None else rope_table(b, rotation)
    is_neighbours = rotation is not None and rotation.neighbours
    b.append(
        Rope(
            pairs="neighbours" if is_neighbours else "halves",
            q=q,
            k=k,
            v=v,
            n_head=shape.n_head,
            n_head_kv=shape.n_head_kv,
            head_dim=shape.head_dim,
            v_dim=shape.v_dim,
            n_pairs=0 if rotation is None else len(rotation.frequencies),
            cos=cos,
            sin=sin,
            q_norm=q_norm,
            k_norm=k_norm,
            v_norm=v_norm,
            norms_last=norms_last,
            eps=shape.eps,
            scale=shape.scale,
            cells=None if k is None else _cells(b, shape),
        )
    )


def _cells(b: Builder, shape: AttentionShape) -> Cells:
    """Those that the layer reads."""
    return b.cells.layer(shape.cells_layer, shape.n_head_kv, shape.head_dim, shape.v_dim)


def _plan(b: Builder, shape: AttentionShape) -> tuple[AttentionPlan, Table[np.float32]]:
    """How the step's attention is cut into work items, and room for the parts. All layers of one
    shape ask for the same op."""
    group = shape.n_head // shape.n_head_kv
    name = f"plan:{group}:{shape.n_head_kv}:{shape.v_dim}:{shape.window}"
    # A long sequence's chunks are folded from partial sums: a numerator and, a vector further,
    # maximum and denominator, of each head and chunk. Memory for them bounds what may be split.
    row_bytes = (round_up(shape.v_dim, 16) + 16) * 4
    seen = min(b.n_ctx, abs(shape.window) + SPLIT_TOKENS + CHUNK) if shape.window else b.n_ctx
    most = max(SPLIT_TOKENS, 4 * b.n_slots) * shape.n_head * -(-seen // CHUNK)
    capacity = min(most, PARTIALS_BYTES // row_bytes)
    n_bytes = capacity * row_bytes
    partials = b.buffers.table(f"partials:{n_bytes}", n_bytes // 4, np.float32)
    plan = AttentionPlan(
        counts=b.buffers.table(f"{name}:counts", b.n_slots + 1, np.int64),
        split_base=b.buffers.table(f"{name}:split", b.n_slots, np.int64),
        split_capacity=capacity,
        group=group,
        n_head_kv=shape.n_head_kv,
        window=shape.window,
    )
    b.append(plan)
    return plan, partials


def attend(
    b: Builder,
    shape: AttentionShape,
    q: Rows,
    gate: Rows | None = None,
    gate_head_stride: int = 0,
    name: str = "attention",
    sinks: Vector | None = None,
    *,
    cells: Cells | None = None,
    choice: Choice | None = None,
) -> Rows:
    """Attention of q over the layer's cells: [n_tokens, n_head * v_dim].

    ``gate``: rows whose sigmoid scales head h from column h * gate_head_stride on; ``sinks``: a
    score of each head that takes part in its softmax and has no value; ``cells``: the layer's, if
    they are not plain ones; ``choice``: what tokens attend to, if not to all."""
    assert shape.n_head % shape.n_head_kv == 0
    plan, partials = _plan(b, shape)
    out = b.buffers.rows(name, shape.n_head * shape.v_dim)
    b.append(
        Attention(
            q=q,
            cells=cells or _cells(b, shape),
            counts=plan.counts,
            split_base=plan.split_base,
            n_head=shape.n_head,
            n_head_kv=shape.n_head_kv,
            head_dim=shape.head_dim,
            v_dim=shape.v_dim,
            window=shape.window,
            softcap=shape.softcap,
            sinks=sinks,
            chosen=None if choice is None else choice.bits,
            choice_bytes=0 if choice is None else choice.row_bytes,
            ratio=0 if choice is None else choice.ratio,
            partials=partials,
            out=out,
        )
    )
    b.append(
        AttentionFold(
            x=out,
            split_base=plan.split_base,
            partials=partials,
            n_head=shape.n_head,
            v_dim=shape.v_dim,
            window=shape.window,
            sinks=sinks,
            gate=gate,
            gate_head_stride=4 * gate_head_stride,
        )
    )
    return out

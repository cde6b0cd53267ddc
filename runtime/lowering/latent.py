"""Multi-head latent attention (see kernels/ops/attention/latent.py)."""

from __future__ import annotations

from dataclasses import dataclass

from slotmux.kernels.formats.panels import Experts
from slotmux.kernels.operands import Cells, Rows, Vector, round_up
from slotmux.kernels.ops.attention.latent import JoinHeads, LatentPart, LatentStore, TimesHeads
from slotmux.runtime.lowering.attention import AttentionShape, Rotation, attend, rope_table
from slotmux.runtime.lowering.builder import Builder


@dataclass(frozen=True, slots=True)
class LatentShape:
    """One layer's latent attention: ``n_head`` heads of ``nope`` + ``rope`` query dimensions and
    ``v_dim`` of results, over cells of ``latent`` + ``rope``."""

    layer: int
    n_head: int
    nope: int
    rope: int
    v_dim: int
    latent: int
    scale: float
    rotation: Rotation | None
    eps: float

    @property
    def width(self) -> int:
        """Floats of a cell, and of a query's head."""
        return round_up(self.latent + self.rope, 16)


def store_latent(
    b: Builder,
    shape: LatentShape,
    kv: Rows,
    norm: Vector,
    q: Rows | None = None,
    query: Rows | None = None,
) -> Cells:
    """kv [n_tokens, latent + rope], before norm and rotation, into the layer's cells; the rotated
    part of q into the queries."""
    assert kv.width == shape.latent + shape.rope
    rotation = shape.rotation
    assert rotation is None or rotation.neighbours
    cos, sin = (None, None) if rotation is None else rope_table(b, rotation)
    cells = b.cells.latent(shape.layer, kv.width, shape.width)
    b.append(
        LatentStore(
            q=q,
            query=query,
            kv=kv,
            n_head=0 if q is None else shape.n_head,
            nope=shape.nope,
            rope=shape.rope,
            latent=shape.latent,
            width=shape.width,
            norm=norm,
            eps=shape.eps,
            scale=shape.scale,
            n_pairs=0 if rotation is None else len(rotation.frequencies),
            cos=cos,
            sin=sin,
            cells=cells,
        )
    )
    return cells


def latent_attention(
    b: Builder,
    shape: LatentShape,
    q: Rows,
    kv: Rows,
    norm: Vector,
    k_b: Experts,
    v_b: Experts,
    gate: Rows | None = None,
) -> Rows:
    """[n_tokens, n_head * v_dim] of q [n_tokens, n_head * (nope + rope)] and kv as for
    ``store_latent``. ``k_b``, ``v_b``: a matrix for each head, of nope inputs and of latent ones;
    ``gate``: rows [n_tokens, n_head] whose sigmoid scales a head."""
    n_head, nope, rope = shape.n_head, shape.nope, shape.rope
    part = b.buffers.rows("latent_part", n_head * nope)
    b.append(LatentPart(q=q, n_head=n_head, nope=nope, rope=rope, scale=shape.scale, out=part))
    query = b.buffers.rows("latent_query", n_head * shape.width)
    b.append(TimesHeads(w=k_b, x=part, out=query, out_width=shape.width))
    cells = store_latent(b, shape, kv, norm, q, query)
    y = attend(b, _over_cells(shape), query, name="latent_attention", cells=cells)
    padded = round_up(shape.v_dim, 16)
    heads = b.buffers.rows("latent_heads", n_head * padded)
    b.append(TimesHeads(w=v_b, x=y, out=heads, out_width=padded))
    if padded == shape.v_dim and gate is None:
        return heads
    out = b.buffers.rows("latent_out", n_head * shape.v_dim)
    b.append(JoinHeads(x=heads, x_width=padded, n_head=n_head, n=shape.v_dim, gate=gate, out=out))
    return out


def _over_cells(shape: LatentShape) -> AttentionShape:
    """What attention over the cells is: one KV head, whose first dimensions are its values."""
    return AttentionShape(
        shape.layer, shape.n_head, 1, shape.width, shape.latent, 1.0, None, shape.eps
    )

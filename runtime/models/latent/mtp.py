"""Multi-token prediction of deepseek2 (GLM-4.7-Flash) and bailingmoe3 (Ling 3): a block of latent
attention and experts behind the trunk's, used as qwen_mtp.py tells."""

from __future__ import annotations

from slotmux.kernels.operands import Rows, State
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.drafts import keep_last
from slotmux.runtime.lowering.latent import LatentShape
from slotmux.runtime.models.blocks import norm, project
from slotmux.runtime.models.hparams import Hparams
from slotmux.runtime.models.hybrid.qwen_mtp import head as head
from slotmux.runtime.models.hybrid.qwen_mtp import inputs
from slotmux.runtime.models.latent.blocks import (
    attention,
    feed_forward,
    keep_cells,
    latent_rotation,
    latent_shape,
)


def keep_past(b: Builder, hp: Hparams, x: Rows) -> State:
    """Of the trunk's program, behind its last block (x): the block's cells of the step's tokens."""
    hidden = norm(b, hp, x, "output_norm.weight", "mtp_hidden")
    before, last = keep_last(b, hidden)
    h = norm(b, hp, inputs(b, hp, before), f"blk.{hp.n_layers}.attn_norm.weight", "mtp_norm")
    keep_cells(b, hp, _shape(b, hp), h)
    return last


def guess(b: Builder, hp: Hparams, hidden: Rows) -> None:
    """One pass over the block for the step's tokens; ``hidden`` in and, for the next pass, out."""
    blk = f"blk.{hp.n_layers}"
    x = inputs(b, hp, hidden)
    h = norm(b, hp, x, f"{blk}.attn_norm.weight", "mtp_norm")
    a = attention(b, hp, _shape(b, hp), h)
    project(b, a, f"{blk}.attn_output.weight", x)
    feed_forward(b, hp, hp.n_layers, x)
    names = [f"{blk}.nextn.shared_head_norm.weight", f"{blk}.layer_output_norm.weight"]
    name = next((name for name in names if b.weights.has(name)), "output_norm.weight")
    b.rms_norm_to(x, b.weights.vector(name, hp.n_embd), hp.eps, hidden)


def _shape(b: Builder, hp: Hparams) -> LatentShape:
    rope, factor = latent_rotation(hp, b)
    return latent_shape(hp, hp.n_layers, rope, factor)

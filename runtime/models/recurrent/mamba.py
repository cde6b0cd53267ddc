"""mamba (Gu & Dao 2023) and mamba2 (Dao & Gu 2024): nothing but normed Mamba layers."""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import embedding, norm, project
from slotmux.runtime.models.hparams import Hparams
from slotmux.runtime.models.recurrent.mamba_mixers import mamba1_mixer, mamba2_mixer


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    mixer = mamba1_mixer if hp.arch == "mamba" else mamba2_mixer
    x = embedding(b, hp)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        project(b, mixer(b, hp, blk, h), f"{blk}.ssm_out.weight", x)
    return x

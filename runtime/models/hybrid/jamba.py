"""jamba (Lieber et al. 2024): Mamba layers with a few of attention, dense FFNs and experts.

Positions come from the Mamba layers: attention has no rotation.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.experts.moe import MoeShape, moe
from slotmux.runtime.models.blocks import embedding, gated_ffn, norm, project, self_attention
from slotmux.runtime.models.hparams import Hparams
from slotmux.runtime.models.recurrent.mamba_mixers import mamba1_mixer


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    x = embedding(b, hp)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        # The file says which layers have attention by giving the others no K and V heads.
        if hp.n_head_kv[layer]:
            a = self_attention(b, hp, layer, h, rotation=None)
            project(b, a, f"{blk}.attn_output.weight", x)
        else:
            project(b, mamba1_mixer(b, hp, blk, h), f"{blk}.ssm_out.weight", x)
        h = norm(b, hp, x, f"{blk}.ffn_norm.weight")
        if b.weights.has(f"{blk}.ffn_gate_inp.weight"):
            moe(b, blk, h, moe_shape(hp, layer), x)
        else:
            f = gated_ffn(b, h, blk, hp.n_ff[layer])
            project(b, f, f"{blk}.ffn_down.weight", x)
    return x


def moe_shape(hp: Hparams, layer: int) -> MoeShape:
    """Softmax over all experts; the weights of the chosen are left as they are."""
    n_expert = hp.u32("expert_count", low=1)
    n_used = hp.u32("expert_used_count", low=1, high=n_expert)
    return MoeShape(n_expert, n_used, hp.n_ff[layer], renormalise=False)

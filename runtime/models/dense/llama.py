"""llama: Llama 1 to 3, SmolLM2, Mistral and all that converters store under this name.

Pre-norm residual blocks: grouped-query attention with rotary embedding of neighbouring pairs,
then SwiGLU. Scaling of the rotation as the file says (linear, llama3, yarn). InternLM 2 (internlm2)
and ERNIE 4.5 without experts (ernie4_5) are the same function.
"""

from __future__ import annotations

from collections.abc import Callable

from slotmux.runtime.lowering.attention import Rotation
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import embedding, gated_ffn, norm, project, self_attention
from slotmux.runtime.models.experts import mixtral
from slotmux.runtime.models.hparams import Hparams, rotation

# Su et al. 2021 (RoFormer) rotate dimensions 2i and 2i + 1 together, checkpoints i and i + d/2.
# For some architectures, this one among them, converters permute q and k to the paper's order.
NEIGHBOURS = True

# (b, hp, layer, h) to what the layer's last projection takes.
FeedForward = Callable[[Builder, Hparams, int, Rows], Rows]
Attend = Callable[[Builder, Hparams, int, Rows, Rotation | None], Rows]


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    if hp.u32("expert_count", 0):
        return mixtral.lower(b, hp)
    return dense_layers(b, hp, NEIGHBOURS)


def swiglu(b: Builder, hp: Hparams, layer: int, h: Rows) -> Rows:
    """silu(ffn_gate h) * (ffn_up h)"""
    return gated_ffn(b, h, f"blk.{layer}", hp.n_ff[layer])


def dense_layers(
    b: Builder,
    hp: Hparams,
    neighbours: bool,
    no_rope_every: int = 0,
    *,
    attend: Attend = self_attention,
    feed_forward: FeedForward = swiglu,
    ffn_norm: str = "ffn_norm",
    embedding_scale: float = 1.0,
) -> Rows:
    """The layer list that llama, smollm3, the qwen families and others share.

    ``no_rope_every``: every n-th layer does without rotation (0: none does)."""
    x = embedding(b, hp, embedding_scale)
    rope = rotation(hp, b.weights, neighbours, n_ctx=b.n_ctx)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        h = norm(b, hp, x, f"{blk}.attn_norm.weight")
        is_rotated = no_rope_every == 0 or (layer + 1) % no_rope_every != 0
        a = attend(b, hp, layer, h, rope if is_rotated else None)
        # Onto x in place: the residual stream is one buffer from the embedding to the head.
        project(b, a, f"{blk}.attn_output.weight", x)
        h = norm(b, hp, x, f"{blk}.{ffn_norm}.weight")
        project(b, feed_forward(b, hp, layer, h), f"{blk}.ffn_down.weight", x)
    return x

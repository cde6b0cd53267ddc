"""Multi-token prediction of nemotron_h_moe (Nemotron 3): attention and experts in one block behind
the trunk's, used as qwen_mtp.py tells."""

from __future__ import annotations

from slotmux.kernels.operands import Rows, State
from slotmux.runtime.lowering.attention import AttentionShape, rotate_and_store
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.drafts import keep_last
from slotmux.runtime.lowering.layer_norm import layer_norm_to
from slotmux.runtime.models.blocks import norm, project, self_attention
from slotmux.runtime.models.hparams import Hparams
from slotmux.runtime.models.hybrid.nemotron_h import feed_forward
from slotmux.runtime.models.hybrid.qwen_mtp import head as head
from slotmux.runtime.models.hybrid.qwen_mtp import inputs


def keep_past(b: Builder, hp: Hparams, x: Rows) -> State:
    """Of the trunk's program, behind its last block (x): the block's cells of the step's tokens."""
    hidden = norm(b, hp, x, "output_norm.weight", "mtp_hidden")
    before, last = keep_last(b, hidden)
    blk = f"blk.{hp.n_layers}"
    h = norm(b, hp, inputs(b, hp, before), f"{blk}.attn_norm.weight", "mtp_norm")
    n_head, n_head_kv = hp.heads(hp.n_layers)
    # q is not needed: K and V take no more than the input.
    shape = AttentionShape(hp.n_layers, 0, n_head_kv, hp.head_dim, hp.v_dim, 1.0, None, hp.eps)
    names = [f"{blk}.attn_{name}.weight" for name in "qkv"]
    n_q, (_, n_k, n_v) = n_head * hp.head_dim, shape.qkv_sizes
    if b.weights.can_join(*names):
        both = b.weights.matrix(names, hp.n_embd, (n_q, n_k, n_v)).outputs(n_q, n_k + n_v)
        kv = b.linear(h, both, "mtp_kv")
        k, v = kv.columns(0, n_k), kv.columns(n_k, n_v)
    else:
        k, v = b.linears(h, names[1:], (n_k, n_v), "mtp_kv")
    rotate_and_store(b, shape, k, k, v)
    return last


def guess(b: Builder, hp: Hparams, hidden: Rows) -> None:
    """One pass over the block for the step's tokens; ``hidden`` in and, for the next pass, out."""
    layer, blk = hp.n_layers, f"blk.{hp.n_layers}"
    x = inputs(b, hp, hidden)
    h = norm(b, hp, x, f"{blk}.attn_norm.weight", "mtp_norm")
    project(b, self_attention(b, hp, layer, h, None), f"{blk}.attn_output.weight", x)
    h = norm(b, hp, x, f"{blk}.post_attention_norm.weight", "mtp_norm")
    feed_forward(b, hp, layer, h, x)
    # The only layer norm of the model, as llama.cpp has it.
    layer_norm_to(b, x, f"{blk}.nextn.shared_head_norm", hp.eps, hidden)

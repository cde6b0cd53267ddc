"""Multi-token prediction of qwen35 and qwen35moe: one more block, which guesses a token ahead.

For token x[p] and the trunk's hidden state h[p-1] (behind its last norm, zeros before the start):

    eh_proj [norm(embed(x[p])), norm(h[p-1])];  an attention block;  a norm;  logits of x[p+1]

Its cells are kept for every token that the trunk computes: K and V need no more than the input.
Guessing goes on from a guess with the block's own normed output in place of h.
"""

from __future__ import annotations

from dataclasses import replace

from slotmux.kernels.operands import State
from slotmux.runtime.lowering.attention import Rotation, rotate_and_store
from slotmux.runtime.lowering.buffers import Rows, round_up
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.drafts import keep_last
from slotmux.runtime.lowering.weights import Panels
from slotmux.runtime.models.blocks import head_norm, norm, project
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.hybrid.qwen_hybrid import (
    attention_shape,
    feed_forward,
    gated_attention,
    qkv_matrices,
    text_rotation,
)


def keep_past(b: Builder, hp: Hparams, x: Rows) -> State:
    """Of the trunk's program, behind its last block (x): the block's cells of the step's tokens."""
    hidden = norm(b, hp, x, "output_norm.weight", "mtp_hidden")
    before, last = keep_last(b, hidden)
    shape = attention_shape(hp, hp.n_layers, _rotation(b, hp))
    h = norm(b, hp, inputs(b, hp, before), f"{_blk(hp)}.attn_norm.weight", "mtp_norm")
    names, sizes = qkv_matrices(b, shape)
    _, n_k, n_v = sizes
    if b.weights.can_join(*names):
        both = b.weights.matrix(names, hp.n_embd, sizes).outputs(sizes[0], n_k + n_v)
        kv = b.linear(h, both, "mtp_kv")
        k, v = kv.columns(0, n_k), kv.columns(n_k, n_v)
    else:
        k, v = b.linears(h, names[1:], (n_k, n_v), "mtp_kv")
    k_norm = head_norm(b, f"{_blk(hp)}.attn_k_norm.weight", hp.head_dim)
    rotate_and_store(b, replace(shape, n_head=0), k, k, v, None, k_norm)
    return last


def guess(b: Builder, hp: Hparams, hidden: Rows) -> None:
    """One pass over the block for the step's tokens; ``hidden`` in and, for the next pass, out."""
    blk = _blk(hp)
    x = inputs(b, hp, hidden)
    h = norm(b, hp, x, f"{blk}.attn_norm.weight", "mtp_norm")
    a = gated_attention(b, hp, hp.n_layers, h, _rotation(b, hp))
    project(b, a, f"{blk}.attn_output.weight", x)
    feed_forward(b, hp, hp.n_layers, x)
    own = f"{blk}.nextn.shared_head_norm.weight"
    weight = b.weights.vector(own if b.weights.has(own) else "output_norm.weight", hp.n_embd)
    b.rms_norm_to(x, weight, hp.eps, hidden)


def head(b: Builder, hp: Hparams) -> Panels:
    """The matrix of the guesses' logits: the block's own, or the trunk's."""
    names = [f"{_blk(hp)}.nextn.shared_head_head.weight", "output.weight", "token_embd.weight"]
    name = next(name for name in names if b.weights.has(name))
    return b.weights.matrix(name, hp.n_embd, hp.n_vocab)


def _blk(hp: Hparams) -> str:
    return f"blk.{hp.n_layers}"


def _rotation(b: Builder, hp: Hparams) -> Rotation:
    return text_rotation(hp, rotation(hp, b.weights, neighbours=False))


def inputs(b: Builder, hp: Hparams, hidden: Rows) -> Rows:
    """eh_proj of the tokens' embeddings and the hidden states before them."""
    own, n = f"{_blk(hp)}.nextn.embed_tokens.weight", hp.n_embd
    name = own if b.weights.has(own) else "token_embd.weight"
    e = b.embed(b.weights.matrix(name, n, hp.n_vocab), name="mtp_embedding")
    # Norms write whole vectors: the second one's last must not reach into the next row.
    both = b.buffers.rows("mtp_both", n + round_up(n, 16)).columns(0, 2 * n)
    for part, (x, tensor) in enumerate(((e, "enorm"), (hidden, "hnorm"))):
        weight = b.weights.vector(f"{_blk(hp)}.nextn.{tensor}.weight", n)
        b.rms_norm_to(x, weight, hp.eps, both.columns(part * n, n))
    eh_proj = b.weights.matrix(f"{_blk(hp)}.nextn.eh_proj.weight", 2 * n, n)
    return b.linear(both, eh_proj, "mtp_x")

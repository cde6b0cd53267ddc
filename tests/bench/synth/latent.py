"""Families with latent attention: deepseek2, and Ling 3, which has delta attention, too."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.synth import blocks
from tests.bench.synth.blocks import Experts
from tests.bench.synth.plan import FilePlan


@dataclass(frozen=True, slots=True)
class Latent:
    """Latent attention: heads, ranks (``q_rank`` 0: queries have none) and widths of a head."""

    n: int
    q_rank: int
    kv_rank: int
    nope: int
    rope: int
    v: int


def _keys(
    p: FilePlan, n_embd: int, n_ff: int, heads: Latent, experts: Experts, n_dense: int
) -> None:
    p.key("context_length", 131072)
    p.key("embedding_length", n_embd)
    p.key("feed_forward_length", n_ff)
    p.key("attention.layer_norm_rms_epsilon", 1e-6)
    p.key("attention.head_count", heads.n)
    if heads.q_rank:
        p.key("attention.q_lora_rank", heads.q_rank)
    p.key("attention.kv_lora_rank", heads.kv_rank)
    p.key("attention.key_length", heads.kv_rank + heads.rope)
    p.key("attention.value_length", heads.kv_rank)
    p.key("attention.key_length_mla", heads.nope + heads.rope)
    p.key("attention.value_length_mla", heads.v)
    p.key("rope.dimension_count", heads.rope)
    p.key("rope.freq_base", 1e6)
    p.key("leading_dense_block_count", n_dense)
    p.key("expert_count", experts.n)
    p.key("expert_used_count", experts.n_used)
    p.key("expert_feed_forward_length", experts.n_ff)
    p.key("expert_shared_count", 1)
    p.key("expert_gating_func", 2)
    p.key("expert_weights_norm", True)
    p.key("expert_weights_scale", 1.8)


def attention(p: FilePlan, blk: str, n_embd: int, heads: Latent) -> None:
    n_q = heads.n * (heads.nope + heads.rope)
    if heads.q_rank:
        p.matrix(f"{blk}.attn_q_a.weight", heads.q_rank, n_embd)
        p.vector(f"{blk}.attn_q_a_norm.weight", heads.q_rank)
        p.matrix(f"{blk}.attn_q_b.weight", n_q, heads.q_rank)
    else:
        p.matrix(f"{blk}.attn_q.weight", n_q, n_embd)
    p.matrix(f"{blk}.attn_kv_a_mqa.weight", heads.kv_rank + heads.rope, n_embd)
    p.vector(f"{blk}.attn_kv_a_norm.weight", heads.kv_rank)
    p.matrix(f"{blk}.attn_k_b.weight", heads.kv_rank, heads.nope, heads.n)
    p.matrix(f"{blk}.attn_v_b.weight", heads.v, heads.kv_rank, heads.n)
    p.matrix(f"{blk}.attn_output.weight", n_embd, heads.n * heads.v)


def feed_forward(p: FilePlan, blk: str, n_embd: int, n_ff: int, experts: Experts | None) -> None:
    """Experts with one that every token takes, or SwiGLU."""
    p.vector(f"{blk}.ffn_norm.weight", n_embd)
    if experts is None:
        blocks.glu(p, blk, n_embd, n_ff)
        return
    blocks.moe(p, blk, n_embd, experts, bias=True)
    p.matrix(f"{blk}.ffn_gate_shexp.weight", experts.n_ff, n_embd)
    p.matrix(f"{blk}.ffn_up_shexp.weight", experts.n_ff, n_embd)
    p.matrix(f"{blk}.ffn_down_shexp.weight", n_embd, experts.n_ff)


def deepseek2(
    n_embd: int,
    n_layers: int,
    n_ff: int,
    heads: Latent,
    experts: Experts,
    n_vocab: int,
    n_dense: int = 1,
    *,
    has_next: bool = False,
) -> FilePlan:
    """``has_next``: a block for multi-token prediction behind the layers."""
    p = FilePlan("deepseek2")
    n_blocks = n_layers + has_next
    p.key("block_count", n_blocks)
    if has_next:
        p.key("nextn_predict_layers", 1)
    p.key("attention.head_count_kv", 1)
    p.key("expert_group_count", 1)
    p.key("expert_group_used_count", 1)
    _keys(p, n_embd, n_ff, heads, experts, n_dense)
    blocks.trunk(p, n_embd, n_vocab, tied=False)
    for i in range(n_blocks):
        blk = f"blk.{i}"
        p.vector(f"{blk}.attn_norm.weight", n_embd)
        attention(p, blk, n_embd, heads)
        feed_forward(p, blk, n_embd, n_ff, experts if i >= n_dense else None)
    if has_next:
        prediction_block(p, f"blk.{n_layers}", n_embd, "nextn.shared_head_norm")
    return p


def prediction_block(p: FilePlan, blk: str, n_embd: int, last_norm: str) -> None:
    """What a block for multi-token prediction has beside its layer."""
    p.matrix(f"{blk}.nextn.eh_proj.weight", n_embd, 2 * n_embd)
    for name in ("nextn.enorm", "nextn.hnorm", last_norm):
        p.vector(f"{blk}.{name}.weight", n_embd)


def bailingmoe3(
    n_embd: int,
    n_layers: int,
    n_ff: int,
    heads: Latent,
    d: int,
    every: int,
    experts: Experts,
    n_vocab: int,
    n_dense: int = 1,
) -> FilePlan:
    """Ling 3: delta attention with heads of ``d``, every ``every``-th layer latent attention, and a
    block for multi-token prediction."""
    p = FilePlan("bailingmoe3")
    p.key("block_count", n_layers + 1)
    p.key("nextn_predict_layers", 1)
    is_full = [*((i + 1) % every == 0 for i in range(n_layers)), True]
    p.key("attention.head_count_kv", [int(full) for full in is_full])
    p.key("expert_group_count", 8)
    p.key("expert_group_used_count", 4)
    p.key("ssm.conv_kernel", 4)
    p.key("kda.head_dim", d)
    p.key("kda.safe_gate", True)
    p.key("kda.gate_lower_bound", -5.0)
    p.key("expert_shared_feed_forward_length", experts.n_ff)
    _keys(p, n_embd, n_ff, heads, experts, n_dense)
    blocks.trunk(p, n_embd, n_vocab, tied=False)
    for i, full in enumerate(is_full):
        blk = f"blk.{i}"
        p.vector(f"{blk}.attn_norm.weight", n_embd)
        if full:
            attention(p, blk, n_embd, heads)
            p.matrix(f"{blk}.attn_gate.weight", heads.n, n_embd)
        else:
            delta_attention(p, blk, n_embd, heads.n, d)
        feed_forward(p, blk, n_embd, n_ff, experts if i >= n_dense else None)
    prediction_block(p, f"blk.{n_layers}", n_embd, "layer_output_norm")
    return p


def delta_attention(p: FilePlan, blk: str, n_embd: int, n_heads: int, d: int) -> None:
    """Kimi Delta Attention with gates of full rank."""
    n = n_heads * d
    for name in "qkv":
        p.matrix(f"{blk}.attn_{name}.weight", n, n_embd)
        p.table(f"{blk}.ssm_conv1d_{name}.weight", (1, n, 1, 4), -0.5, 0.5)
    for name in ("f_a", "g_a"):
        p.matrix(f"{blk}.ssm_{name}.weight", n, n_embd)
    p.matrix(f"{blk}.ssm_beta.weight", n_heads, n_embd)
    p.table(f"{blk}.ssm_a", (n_heads, 1), 0.5, 3)
    p.vector(f"{blk}.ssm_dt.bias", n, -4, -1)
    p.vector(f"{blk}.ssm_norm.weight", d)
    p.matrix(f"{blk}.attn_output.weight", n_embd, n)

"""One function a family of synthetic GGUFs: keys and tensors as converters write them."""

from __future__ import annotations

from collections.abc import Collection

from tests.bench.synth import blocks as blocks
from tests.bench.synth.blocks import Experts, Heads, Ssm
from tests.bench.synth.plan import FilePlan

N_CTX = 32768
RMS_EPSILON = "attention.layer_norm_rms_epsilon"


def _plan(
    arch: str, n_embd: int, n_layers: int, n_ff: int | list[int] | None, epsilon: str = RMS_EPSILON
) -> FilePlan:
    p = FilePlan(arch)
    p.key("context_length", N_CTX)
    p.key("embedding_length", n_embd)
    p.key("block_count", n_layers)
    if n_ff is not None:
        p.key("feed_forward_length", n_ff)
    p.key(epsilon, 1e-6)
    return p


def _layers(p: FilePlan, n_layers: int, n_embd: int) -> list[str]:
    for i in range(n_layers):
        p.vector(f"blk.{i}.attn_norm.weight", n_embd)
    return [f"blk.{i}" for i in range(n_layers)]


def dense(arch: str, n_embd: int, n_layers: int, n_ff: int, heads: Heads, n_vocab: int) -> FilePlan:
    """llama, and qwen3 with its norms of q and k."""
    p = _plan(arch, n_embd, n_layers, n_ff)
    blocks.head_keys(p, heads)
    p.key("rope.dimension_count", heads.dim)
    p.key("rope.freq_base", 1e6)
    blocks.trunk(p, n_embd, n_vocab)
    for blk in _layers(p, n_layers, n_embd):
        blocks.attention(p, blk, n_embd, heads, norms=arch == "qwen3")
        p.vector(f"{blk}.ffn_norm.weight", n_embd)
        blocks.glu(p, blk, n_embd, n_ff)
    return p


def qwen3moe(n_embd: int, n_layers: int, heads: Heads, experts: Experts, n_vocab: int) -> FilePlan:
    p = _plan("qwen3moe", n_embd, n_layers, 4 * n_embd)
    blocks.head_keys(p, heads)
    blocks.expert_keys(p, experts)
    p.key("rope.freq_base", 1e6)
    blocks.trunk(p, n_embd, n_vocab, tied=False)
    for blk in _layers(p, n_layers, n_embd):
        blocks.attention(p, blk, n_embd, heads, norms=True)
        p.vector(f"{blk}.ffn_norm.weight", n_embd)
        blocks.moe(p, blk, n_embd, experts)
    return p


def qwen35(
    n_embd: int, n_layers: int, n_ff: int, heads: Heads, delta: Ssm, n_vocab: int
) -> FilePlan:
    """With one multi-token prediction block behind the layers."""
    p = _plan("qwen35", n_embd, n_layers + 1, n_ff)
    _qwen35_keys(p, heads, delta)
    blocks.trunk(p, n_embd, n_vocab)
    for i, blk in enumerate(_layers(p, n_layers + 1, n_embd)):
        _qwen35_mixer(p, blk, n_embd, heads, None if i in (n_layers, *_every(4, i)) else delta)
        blocks.glu(p, blk, n_embd, n_ff)
    _prediction_block(p, f"blk.{n_layers}", n_embd)
    return p


def qwen35moe(
    n_embd: int, n_layers: int, heads: Heads, delta: Ssm, experts: Experts, n_vocab: int
) -> FilePlan:
    p = _plan("qwen35moe", n_embd, n_layers + 1, None)
    _qwen35_keys(p, heads, delta)
    blocks.expert_keys(p, experts)
    blocks.trunk(p, n_embd, n_vocab)
    for i, blk in enumerate(_layers(p, n_layers + 1, n_embd)):
        _qwen35_mixer(p, blk, n_embd, heads, None if i in (n_layers, *_every(4, i)) else delta)
        blocks.moe(p, blk, n_embd, experts)
    _prediction_block(p, f"blk.{n_layers}", n_embd)
    return p


def _every(n: int, i: int) -> tuple[int, ...]:
    """(i,) for the last of each n layers, else nothing."""
    return (i,) if (i + 1) % n == 0 else ()


def _qwen35_keys(p: FilePlan, heads: Heads, delta: Ssm) -> None:
    blocks.head_keys(p, heads)
    blocks.ssm_keys(p, delta)
    p.key("rope.freq_base", 1e6)
    p.key("rope.dimension_count", heads.dim // 4)
    p.key("rope.dimension_sections", [11, 11, 10, 0])
    p.key("full_attention_interval", 4)
    p.key("nextn_predict_layers", 1)


def _qwen35_mixer(p: FilePlan, blk: str, n_embd: int, heads: Heads, delta: Ssm | None) -> None:
    p.vector(f"{blk}.post_attention_norm.weight", n_embd)
    if delta is None:
        blocks.attention(p, blk, n_embd, heads, norms=True, gate=True)
    else:
        blocks.delta_net(p, blk, n_embd, delta)


def _prediction_block(p: FilePlan, blk: str, n_embd: int) -> None:
    p.matrix(f"{blk}.nextn.eh_proj.weight", n_embd, 2 * n_embd)
    for name in ("enorm", "hnorm", "shared_head_norm"):
        p.vector(f"{blk}.nextn.{name}.weight", n_embd)


def lfm2(
    n_embd: int,
    n_layers: int,
    n_ff: int,
    heads: Heads,
    attention: Collection[int],
    n_vocab: int,
    experts: Experts | None = None,
    n_dense: int = 0,
) -> FilePlan:
    """lfm2, and lfm2moe with ``experts`` behind the first ``n_dense`` layers."""
    p = _plan("lfm2moe" if experts else "lfm2", n_embd, n_layers, n_ff)
    p.key("attention.head_count", heads.n)
    n_kv = [heads.n_kv if i in attention else 0 for i in range(n_layers)]
    p.key("attention.head_count_kv", n_kv)
    p.key("rope.freq_base", 1e6)
    p.key("vocab_size", n_vocab)
    p.key("shortconv.l_cache", 3)
    if experts:
        blocks.expert_keys(p, experts)
        p.key("leading_dense_block_count", n_dense)
        p.key("expert_gating_func", 2)
    p.matrix("token_embd.weight", n_vocab, n_embd)
    p.vector("token_embd_norm.weight", n_embd)  # what LFM2 calls its final norm
    for i, blk in enumerate(_layers(p, n_layers, n_embd)):
        if i in attention:
            blocks.attention(p, blk, n_embd, heads, norms=True)
        else:
            blocks.short_convolution(p, blk, n_embd, 3)
        p.vector(f"{blk}.ffn_norm.weight", n_embd)
        if experts and i >= n_dense:
            blocks.moe(p, blk, n_embd, experts, bias=True)
        else:
            blocks.glu(p, blk, n_embd, n_ff)
    return p


def mamba(arch: str, n_embd: int, n_layers: int, ssm: Ssm, n_vocab: int) -> FilePlan:
    """mamba and mamba2."""
    p = _plan(arch, n_embd, n_layers, 0)
    p.key("attention.head_count", 0)
    blocks.ssm_keys(p, ssm, groups=arch == "mamba2")
    blocks.trunk(p, n_embd, n_vocab)
    for blk in _layers(p, n_layers, n_embd):
        (blocks.mamba1 if arch == "mamba" else blocks.mamba2)(p, blk, n_embd, ssm)
    return p


def granitehybrid(
    n_embd: int,
    n_layers: int,
    n_ff: int,
    heads: Heads,
    ssm: Ssm,
    attention: Collection[int],
    n_vocab: int,
) -> FilePlan:
    p = _plan("granitehybrid", n_embd, n_layers, n_ff)
    p.key("attention.head_count", heads.n)
    n_kv = [heads.n_kv if i in attention else 0 for i in range(n_layers)]
    p.key("attention.head_count_kv", n_kv)
    p.key("rope.dimension_count", heads.dim)
    p.key("rope.freq_base", 1e4)
    p.key("rope.scaling.finetuned", False)  # no rotary embedding at all
    p.key("vocab_size", n_vocab)
    p.key("expert_count", 0)
    p.key("expert_used_count", 0)
    p.key("expert_shared_feed_forward_length", n_ff)
    p.key("attention.scale", 1 / heads.dim)
    p.key("embedding_scale", 12.0)
    p.key("residual_scale", 0.25)
    p.key("logit_scale", 3.0)
    blocks.ssm_keys(p, ssm)
    blocks.trunk(p, n_embd, n_vocab)
    for i, blk in enumerate(_layers(p, n_layers, n_embd)):
        if i in attention:
            blocks.attention(p, blk, n_embd, heads)
        else:
            blocks.mamba2(p, blk, n_embd, ssm)
        p.vector(f"{blk}.ffn_norm.weight", n_embd)
        blocks.glu(p, blk, n_embd, n_ff)
    return p


def falcon_h1(
    n_embd: int, n_layers: int, n_ff: int, heads: Heads, ssm: Ssm, n_vocab: int
) -> FilePlan:
    """Attention and Mamba-2 side by side in every layer."""
    p = _plan("falcon-h1", n_embd, n_layers, n_ff)
    blocks.head_keys(p, heads)
    blocks.ssm_keys(p, ssm)
    p.key("rope.freq_base", 1e11)
    p.key("vocab_size", n_vocab)
    blocks.trunk(p, n_embd, n_vocab, tied=False)
    for blk in _layers(p, n_layers, n_embd):
        blocks.mamba2(p, blk, n_embd, ssm)
        blocks.attention(p, blk, n_embd, heads)
        p.vector(f"{blk}.ffn_norm", n_embd)  # so named, without .weight
        blocks.glu(p, blk, n_embd, n_ff)
    return p


def nemotron_h(
    n_embd: int, pattern: str, n_ff: int, heads: Heads, ssm: Ssm, n_vocab: int
) -> FilePlan:
    """``pattern``: a letter a layer, M Mamba-2, - feed-forward, * attention."""
    widths = [n_ff if kind == "-" else 0 for kind in pattern]
    p = _plan("nemotron_h", n_embd, len(pattern), widths, epsilon="attention.layer_norm_epsilon")
    blocks.head_keys(p, heads, [heads.n_kv if kind == "*" else 0 for kind in pattern])
    p.key("rope.dimension_count", heads.dim)
    p.key("rope.scaling.finetuned", False)
    p.key("vocab_size", n_vocab)
    blocks.ssm_keys(p, ssm)
    blocks.trunk(p, n_embd, n_vocab, tied=False)
    for kind, blk in zip(pattern, _layers(p, len(pattern), n_embd), strict=True):
        if kind == "M":
            blocks.mamba2(p, blk, n_embd, ssm)
        elif kind == "*":
            blocks.attention(p, blk, n_embd, heads)
        else:
            blocks.glu(p, blk, n_embd, n_ff, gate=False)
    return p


def jamba(
    n_embd: int,
    n_layers: int,
    heads: Heads,
    ssm: Ssm,
    attention: Collection[int],
    experts: Experts,
    n_vocab: int,
) -> FilePlan:
    """Mamba-1 with a few attention layers; experts in every second layer."""
    p = _plan("jamba", n_embd, n_layers, experts.n_ff)
    p.key("attention.head_count", heads.n)
    n_kv = [heads.n_kv if i in attention else 0 for i in range(n_layers)]
    p.key("attention.head_count_kv", n_kv)
    blocks.ssm_keys(p, ssm, groups=False)
    p.key("expert_count", experts.n)
    p.key("expert_used_count", experts.n_used)
    blocks.trunk(p, n_embd, n_vocab)
    for i, blk in enumerate(_layers(p, n_layers, n_embd)):
        if i in attention:
            blocks.attention(p, blk, n_embd, heads)
        else:
            blocks.mamba1(p, blk, n_embd, ssm, norms=True)
        p.vector(f"{blk}.ffn_norm.weight", n_embd)
        if i % 2:
            blocks.moe(p, blk, n_embd, experts)
        else:
            blocks.glu(p, blk, n_embd, experts.n_ff)
    return p

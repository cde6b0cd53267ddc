"""Parts that several families of synthetic GGUFs share: attention, feed-forward, mixers."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.synth.plan import FilePlan


@dataclass(frozen=True, slots=True)
class Heads:
    """Attention: query heads, heads of K and V, and the width of each."""

    n: int
    n_kv: int
    dim: int


@dataclass(frozen=True, slots=True)
class Ssm:
    """A state-space mixer. ``n_heads`` is the rank of the time step where there are no heads."""

    inner: int
    state: int
    n_heads: int
    n_groups: int = 1
    conv: int = 4


@dataclass(frozen=True, slots=True)
class Experts:
    """Experts of width ``n_ff``, ``n_used`` a token; ``n_shared_ff``: width of a shared one."""

    n: int
    n_used: int
    n_ff: int
    n_shared_ff: int = 0


def trunk(p: FilePlan, n_embd: int, n_vocab: int, *, tied: bool = True) -> None:
    p.matrix("token_embd.weight", n_vocab, n_embd)
    p.vector("output_norm.weight", n_embd)
    if not tied:
        p.matrix("output.weight", n_vocab, n_embd)


def head_keys(p: FilePlan, heads: Heads, n_kv: int | list[int] | None = None) -> None:
    """``n_kv`` may say which layers have attention at all."""
    p.key("attention.head_count", heads.n)
    p.key("attention.head_count_kv", heads.n_kv if n_kv is None else n_kv)
    p.key("attention.key_length", heads.dim)
    p.key("attention.value_length", heads.dim)


def ssm_keys(p: FilePlan, ssm: Ssm, *, groups: bool = True) -> None:
    p.key("ssm.conv_kernel", ssm.conv)
    p.key("ssm.inner_size", ssm.inner)
    p.key("ssm.state_size", ssm.state)
    p.key("ssm.time_step_rank", ssm.n_heads)
    if groups:
        p.key("ssm.group_count", ssm.n_groups)


def expert_keys(p: FilePlan, experts: Experts) -> None:
    p.key("expert_count", experts.n)
    p.key("expert_used_count", experts.n_used)
    p.key("expert_feed_forward_length", experts.n_ff)
    if experts.n_shared_ff:
        p.key("expert_shared_feed_forward_length", experts.n_shared_ff)


def attention(
    p: FilePlan, blk: str, n_embd: int, heads: Heads, *, norms: bool = False, gate: bool = False
) -> None:
    """``norms``: of each head's q and k; ``gate``: q comes with a gate on the output."""
    p.matrix(f"{blk}.attn_q.weight", heads.n * heads.dim * (2 if gate else 1), n_embd)
    p.matrix(f"{blk}.attn_k.weight", heads.n_kv * heads.dim, n_embd)
    p.matrix(f"{blk}.attn_v.weight", heads.n_kv * heads.dim, n_embd)
    p.matrix(f"{blk}.attn_output.weight", n_embd, heads.n * heads.dim)
    if norms:
        p.vector(f"{blk}.attn_q_norm.weight", heads.dim)
        p.vector(f"{blk}.attn_k_norm.weight", heads.dim)


def glu(p: FilePlan, blk: str, n_embd: int, n_ff: int, *, gate: bool = True) -> None:
    if gate:
        p.matrix(f"{blk}.ffn_gate.weight", n_ff, n_embd)
    p.matrix(f"{blk}.ffn_up.weight", n_ff, n_embd)
    p.matrix(f"{blk}.ffn_down.weight", n_embd, n_ff)


def moe(p: FilePlan, blk: str, n_embd: int, experts: Experts, *, bias: bool = False) -> None:
    """``bias``: a bias of the router's choice (not of its weights)."""
    p.float_matrix(f"{blk}.ffn_gate_inp.weight", experts.n, n_embd)
    p.matrix(f"{blk}.ffn_gate_exps.weight", experts.n_ff, n_embd, experts.n)
    p.matrix(f"{blk}.ffn_up_exps.weight", experts.n_ff, n_embd, experts.n)
    p.matrix(f"{blk}.ffn_down_exps.weight", n_embd, experts.n_ff, experts.n)
    if bias:
        p.vector(f"{blk}.exp_probs_b.bias", experts.n, -0.1, 0.1)
    if experts.n_shared_ff:
        p.table(f"{blk}.ffn_gate_inp_shexp.weight", (1, n_embd), -0.05, 0.05)
        p.matrix(f"{blk}.ffn_gate_shexp.weight", experts.n_shared_ff, n_embd)
        p.matrix(f"{blk}.ffn_up_shexp.weight", experts.n_shared_ff, n_embd)
        p.matrix(f"{blk}.ffn_down_shexp.weight", n_embd, experts.n_shared_ff)


def convolution(p: FilePlan, name: str, n_channels: int, width: int) -> None:
    p.table(name, (n_channels, width), -0.5, 0.5)


def mamba1(p: FilePlan, blk: str, n_embd: int, ssm: Ssm, *, norms: bool = False) -> None:
    """``norms``: of the time step, B and C (Jamba)."""
    rank = ssm.n_heads
    p.matrix(f"{blk}.ssm_in.weight", 2 * ssm.inner, n_embd)
    convolution(p, f"{blk}.ssm_conv1d.weight", ssm.inner, ssm.conv)
    p.vector(f"{blk}.ssm_conv1d.bias", ssm.inner, -0.1, 0.1)
    p.matrix(f"{blk}.ssm_x.weight", rank + 2 * ssm.state, ssm.inner)
    p.matrix(f"{blk}.ssm_dt.weight", ssm.inner, rank)
    p.vector(f"{blk}.ssm_dt.bias", ssm.inner, -4, -1)
    p.table(f"{blk}.ssm_a", (ssm.inner, ssm.state), -float(ssm.state), -1)
    p.vector(f"{blk}.ssm_d", ssm.inner)
    p.matrix(f"{blk}.ssm_out.weight", n_embd, ssm.inner)
    if norms:
        p.vector(f"{blk}.ssm_dt_norm.weight", rank)
        p.vector(f"{blk}.ssm_b_norm.weight", ssm.state)
        p.vector(f"{blk}.ssm_c_norm.weight", ssm.state)


def mamba2(p: FilePlan, blk: str, n_embd: int, ssm: Ssm) -> None:
    n_bc = 2 * ssm.n_groups * ssm.state
    p.matrix(f"{blk}.ssm_in.weight", 2 * ssm.inner + n_bc + ssm.n_heads, n_embd)
    convolution(p, f"{blk}.ssm_conv1d.weight", ssm.inner + n_bc, ssm.conv)
    p.vector(f"{blk}.ssm_conv1d.bias", ssm.inner + n_bc, -0.1, 0.1)
    p.vector(f"{blk}.ssm_dt.bias", ssm.n_heads, -4, -1)
    p.table(f"{blk}.ssm_a", (ssm.n_heads, 1), -16, -1)
    p.table(f"{blk}.ssm_d", (ssm.n_heads, 1), 0.8, 1.2)
    p.table(f"{blk}.ssm_norm.weight", (ssm.n_groups, ssm.inner // ssm.n_groups), 0.8, 1.2)
    p.matrix(f"{blk}.ssm_out.weight", n_embd, ssm.inner)


def short_convolution(p: FilePlan, blk: str, n_embd: int, width: int) -> None:
    """LFM2's mixer."""
    p.matrix(f"{blk}.shortconv.in_proj.weight", 3 * n_embd, n_embd)
    p.matrix(f"{blk}.shortconv.out_proj.weight", n_embd, n_embd)
    convolution(p, f"{blk}.shortconv.conv.weight", n_embd, width)


def delta_net(p: FilePlan, blk: str, n_embd: int, ssm: Ssm) -> None:
    """Gated DeltaNet: ``n_groups`` heads of q and k, ``n_heads`` of v, each ``state`` wide."""
    n_qkv = 2 * ssm.n_groups * ssm.state + ssm.inner
    p.matrix(f"{blk}.attn_qkv.weight", n_qkv, n_embd)
    p.matrix(f"{blk}.attn_gate.weight", ssm.inner, n_embd)
    convolution(p, f"{blk}.ssm_conv1d.weight", n_qkv, ssm.conv)
    p.vector(f"{blk}.ssm_dt.bias", ssm.n_heads, -1, 1)
    p.vector(f"{blk}.ssm_a", ssm.n_heads, -4, -0.5)
    p.matrix(f"{blk}.ssm_beta.weight", ssm.n_heads, n_embd)
    p.matrix(f"{blk}.ssm_alpha.weight", ssm.n_heads, n_embd)
    p.vector(f"{blk}.ssm_norm.weight", ssm.state)
    p.matrix(f"{blk}.ssm_out.weight", n_embd, ssm.inner)

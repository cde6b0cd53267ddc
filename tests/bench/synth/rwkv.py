"""Synthetic GGUFs of the RWKV families: keys and tensors as converters write them."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.synth.plan import FilePlan


@dataclass(frozen=True, slots=True)
class Ranks:
    """Widths of RWKV-7's low-rank factors: decay, learning rate, value mix, gate."""

    decay: int
    rate: int
    value: int
    gate: int


def _rwkv(arch: str, n_embd: int, n_layers: int, n_ff: int, head: int, n_vocab: int) -> FilePlan:
    p = FilePlan(arch)
    p.key("context_length", 32768)
    p.key("embedding_length", n_embd)
    p.key("block_count", n_layers)
    p.key("attention.layer_norm_epsilon", 1e-5)
    p.key("wkv.head_size", head)
    p.key("feed_forward_length", n_ff)
    p.key("attention.head_count", 0)
    p.matrix("token_embd.weight", n_vocab, n_embd)
    p.norm("token_embd_norm", n_embd)
    p.norm("output_norm", n_embd)
    p.matrix("output.weight", n_vocab, n_embd)
    return p


def _layer(p: FilePlan, blk: str, n_embd: int, n_ff: int) -> None:
    """What both versions have."""
    for name in ("attn_norm", "attn_norm_2", "time_mix_ln"):
        p.norm(f"{blk}.{name}", n_embd)
    for name in ("receptance", "key", "value", "output"):
        p.matrix(f"{blk}.time_mix_{name}.weight", n_embd, n_embd)
    p.matrix(f"{blk}.channel_mix_key.weight", n_ff, n_embd)
    p.matrix(f"{blk}.channel_mix_value.weight", n_embd, n_ff)
    p.table(f"{blk}.channel_mix_lerp_k.weight", (1, 1, n_embd), 0, 1)


def rwkv6(
    n_embd: int, n_layers: int, n_ff: int, head: int, n_mix: int, n_decay: int, n_vocab: int
) -> FilePlan:
    """``n_mix``, ``n_decay``: widths of the low-rank factors of token shift and decay."""
    p = _rwkv("rwkv6", n_embd, n_layers, n_ff, head, n_vocab)
    p.key("rescale_every_n_layers", 6)
    p.key("time_mix_extra_dim", n_mix)
    p.key("time_decay_extra_dim", n_decay)
    for i in range(n_layers):
        blk = f"blk.{i}"
        _layer(p, blk, n_embd, n_ff)
        p.matrix(f"{blk}.time_mix_gate.weight", n_embd, n_embd)
        p.matrix(f"{blk}.channel_mix_receptance.weight", n_embd, n_embd)
        p.table(f"{blk}.channel_mix_lerp_r.weight", (1, 1, n_embd), 0, 1)
        p.table(f"{blk}.time_mix_lerp_x.weight", (1, 1, n_embd), 0, 1)
        p.table(f"{blk}.time_mix_lerp_fused.weight", (5, 1, 1, n_embd), 0, 1)
        p.float_matrix(f"{blk}.time_mix_w1.weight", 5 * n_mix, n_embd)
        p.table(f"{blk}.time_mix_w2.weight", (5, n_embd, n_mix), -0.1, 0.1)
        p.vector(f"{blk}.time_mix_decay.weight", n_embd, -6, -1)
        p.float_matrix(f"{blk}.time_mix_decay_w1.weight", n_decay, n_embd)
        p.float_matrix(f"{blk}.time_mix_decay_w2.weight", n_embd, n_decay)
        p.table(f"{blk}.time_mix_first.weight", (n_embd // head, head), -0.5, 0.5)
    return p


def rwkv7(n_embd: int, n_layers: int, n_ff: int, head: int, ranks: Ranks, n_vocab: int) -> FilePlan:
    p = _rwkv("rwkv7", n_embd, n_layers, n_ff, head, n_vocab)
    p.key("attention.decay_lora_rank", ranks.decay)
    p.key("attention.iclr_lora_rank", ranks.rate)
    p.key("attention.value_residual_mix_lora_rank", ranks.value)
    p.key("attention.gate_lora_rank", ranks.gate)
    for i in range(n_layers):
        blk = f"blk.{i}"
        _layer(p, blk, n_embd, n_ff)
        p.table(f"{blk}.time_mix_lerp_fused.weight", (6, 1, 1, n_embd), 0, 1)
        # The first layer's v factors are never used; converters give them the rate's rank.
        n_value = ranks.value if i else ranks.rate
        for name, rank in (("w", ranks.decay), ("a", ranks.rate), ("v", n_value)):
            p.vector(f"{blk}.time_mix_{name}0.weight", n_embd, -1, 1)
            _factors(p, f"{blk}.time_mix_{name}", n_embd, rank)
        _factors(p, f"{blk}.time_mix_g", n_embd, ranks.gate)
        for name in ("k_k", "k_a", "r_k"):
            p.vector(f"{blk}.time_mix_{name}.weight", n_embd, -0.5, 0.5)
    return p


def _factors(p: FilePlan, name: str, n_embd: int, rank: int) -> None:
    p.half_matrix(f"{name}1.weight", rank, n_embd)
    p.half_matrix(f"{name}2.weight", n_embd, rank)

"""Synthetic GGUFs of qwen4exp: hyper-connections, an index of attention, a table of n-grams."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.synth import blocks
from tests.bench.synth.blocks import Experts, Heads, Ssm
from tests.bench.synth.plan import FilePlan

NGRAM, PER_ORDER, TAPS = 3, 8, 4
HEAD_ROWS = 20011  # of the table, for each head


@dataclass(frozen=True, slots=True)
class Streams:
    """Residual streams, and the rank of their gates."""

    n: int
    rank: int


@dataclass(frozen=True, slots=True)
class Index:
    """Heads of ``dim``; ``budget`` positions are attended to, in blocks of ``ratio``."""

    n: int
    dim: int
    budget: int
    ratio: int


def qwen4exp(
    n_embd: int,
    n_layers: int,
    heads: Heads,
    delta: Ssm,
    experts: Experts,
    streams: Streams,
    index: Index,
    n_vocab: int,
) -> FilePlan:
    """Every fourth layer has attention; n-grams are added before the second."""
    p = FilePlan("qwen4exp")
    p.key("context_length", 32768)
    p.key("embedding_length", n_embd)
    p.key("block_count", n_layers)
    p.key("attention.layer_norm_rms_epsilon", 1e-6)
    blocks.head_keys(p, heads)
    blocks.ssm_keys(p, delta)
    blocks.expert_keys(p, experts)
    _own_keys(p, n_embd, n_layers, heads, streams, index)
    p.matrix("token_embd.weight", n_vocab, n_embd)
    p.matrix("output.weight", n_vocab, n_embd)
    _mixer(p, "output_hc", n_embd, streams)
    n_heads = (NGRAM - 1) * PER_ORDER
    p.matrix("per_layer_token_embd.weight", n_heads * HEAD_ROWS, n_embd // n_heads)
    for i in range(n_layers):
        blk = f"blk.{i}"
        for part in ("hc_attn", "hc_ffn"):
            _mixer(p, f"{blk}.{part}", n_embd, streams)
            p.matrix(f"{blk}.{part}_inject.weight", streams.n, streams.n * n_embd)
        if (i + 1) % 4 == 0:
            blocks.attention(p, blk, n_embd, heads, norms=True, gate=True)
            _index(p, f"{blk}.indexer", n_embd, index)
        else:
            blocks.delta_net(p, blk, n_embd, delta)
        blocks.moe(p, blk, n_embd, experts)
    _ngrams(p, "blk.1", n_embd, streams)
    return p


def _own_keys(
    p: FilePlan, n_embd: int, n_layers: int, heads: Heads, streams: Streams, index: Index
) -> None:
    p.key("rope.freq_base", 1e6)
    p.key("rope.dimension_count", heads.dim // 4)
    p.key("rope.dimension_sections", [11, 11, 10, 0])
    p.key("full_attention_interval", 4)
    p.key("hyper_connection.count", streams.n)
    p.key("hyper_connection.low_rank", streams.rank)
    p.key("attention.indexer.head_count", index.n)
    p.key("attention.indexer.key_length", index.dim)
    p.key("attention.indexer.top_k", index.budget)
    ratios = [index.ratio if (i + 1) % 4 == 0 else 0 for i in range(n_layers)]
    p.key("attention.compress_ratios", ratios)
    n_heads = (NGRAM - 1) * PER_ORDER
    p.key("embedding_length_per_layer_input", n_embd // n_heads)
    p.key("ple.layers", [1])
    p.key("ple.ngram_size", NGRAM)
    p.key("ple.heads_per_ngram", PER_ORDER)
    p.key("ple.conv_kernel", TAPS)
    p.key("ple.eos_token_id", 257)
    p.key("ple.layer_multipliers", [1442695041, 1103515245, 1664525013])
    p.key("ple.head_offsets", [HEAD_ROWS * i for i in range(n_heads)])
    p.key("ple.head_vocab_sizes", [HEAD_ROWS] * n_heads)


def _mixer(p: FilePlan, name: str, n_embd: int, streams: Streams) -> None:
    p.vector(f"{name}_norm.weight", streams.n * n_embd)
    p.matrix(f"{name}_down.weight", streams.rank, streams.n * n_embd)
    p.matrix(f"{name}_up.weight", streams.n * n_embd, streams.rank)


def _index(p: FilePlan, name: str, n_embd: int, index: Index) -> None:
    p.matrix(f"{name}.q_proj.weight", index.n * index.dim, n_embd)
    p.matrix(f"{name}.k_proj.weight", index.dim, n_embd)
    p.vector(f"{name}.q_norm.weight", index.dim)
    p.vector(f"{name}.k_norm.weight", index.dim)


def _ngrams(p: FilePlan, blk: str, n_embd: int, streams: Streams) -> None:
    n_all = streams.n * n_embd
    p.matrix(f"{blk}.ple_key.weight", n_all, n_embd)
    p.matrix(f"{blk}.ple_value.weight", n_embd, n_embd)
    for name in ("key", "query", "conv"):
        p.vector(f"{blk}.ple_norm_{name}.weight", n_all)
    blocks.convolution(p, f"{blk}.ple_conv1d.weight", n_all, TAPS)

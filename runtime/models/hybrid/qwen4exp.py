"""qwen4exp (Qwen3.8-Flash-Next): Gated DeltaNet, attention to chosen blocks, experts everywhere.

Around each half of a block stand hyper-connections in place of a residual and a norm: several
streams, mixed to what the half reads. One layer adds embeddings of the token's n-grams to all
streams. A block for multi-token prediction is not run.
"""

from __future__ import annotations

import numpy as np

from slotmux.kernels.ops.recurrent.conv import MAX_TAPS
from slotmux.runtime.lowering.attention import Rotation
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.elementwise import add_scaled
from slotmux.runtime.lowering.index import IndexShape, choose
from slotmux.runtime.lowering.recurrent.conv import short_conv
from slotmux.runtime.lowering.recurrent.ngram import NgramShape, ngram_embeddings
from slotmux.runtime.lowering.streams import (
    StreamShape,
    gate_streams,
    mix,
    mix_outputs,
    spread,
    stream_norm,
    streams_of,
)
from slotmux.runtime.models.blocks import embedding, logits
from slotmux.runtime.models.dense.qwen3moe import moe_shape
from slotmux.runtime.models.hparams import Hparams, rotation
from slotmux.runtime.models.hybrid.qwen_hybrid import (
    delta_shape,
    gated_attention,
    linear_attention,
    recurrent_layers,
    shared_experts,
    text_rotation,
)
from slotmux.runtime.models.ranges import integers

TABLE = "per_layer_token_embd.weight"


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual streams."""
    shape, delta, experts = stream_shape(hp), delta_shape(hp), moe_shape(hp)
    x = streams_of(b, shape, embedding(b, hp))
    rope = text_rotation(hp, rotation(hp, b.weights, neighbours=False))
    is_recurrent, with_ngrams = recurrent_layers(hp), ngram_layer(hp)
    for layer in range(hp.n_layers):
        blk = f"blk.{layer}"
        if layer == with_ngrams:
            add_ngrams(b, hp, blk, shape, x)
        h, back = mix(b, shape, x, f"{blk}.hc_attn")
        if is_recurrent[layer]:
            a, out = linear_attention(b, hp, blk, h, delta, gate="sigmoid"), f"{blk}.ssm_out"
        else:
            a, out = chosen_attention(b, hp, layer, h, rope), f"{blk}.attn_output"
        weight = b.weights.matrix(f"{out}.weight", a.width, hp.n_embd)
        spread(b, shape, x, b.linear(a, weight, "block_out"), back)
        h, back = mix(b, shape, x, f"{blk}.hc_ffn")
        y = b.buffers.rows("block_out", hp.n_embd)
        shared_experts(b, hp, blk, h, experts, y, add=False)
        spread(b, shape, x, y, back)
    return x


def normed(b: Builder, hp: Hparams, x: Rows, capacity: int) -> Rows:
    """The output rows' streams, mixed: what the logits are made of."""
    return mix_outputs(b, stream_shape(hp), x, "output_hc", capacity)


def head(b: Builder, hp: Hparams, x: Rows, capacity: int) -> Rows:
    """Logits of the output rows."""
    return logits(b, hp, normed(b, hp, x, capacity))


def stream_shape(hp: Hparams) -> StreamShape:
    """The residual streams."""
    if hp.n_embd % 16:
        hp.metadata.refuse(hp.key("embedding_length"), f"{hp.n_embd} is no multiple of 16")
    n, rank = hp.u32("hyper_connection.count"), hp.u32("hyper_connection.low_rank")
    return StreamShape(n, hp.n_embd, rank, hp.eps)


def chosen_attention(b: Builder, hp: Hparams, layer: int, h: Rows, rope: Rotation) -> Rows:
    """Gated attention to the blocks of positions that the layer's index finds best."""
    shape, blk = index_shape(hp, layer, rope), f"blk.{layer}.indexer"
    names = [f"{blk}.{n}_proj.weight" for n in "qk"]
    q, k = b.linears(h, names, (shape.n_head * shape.d, shape.d), "index_qk")
    q_norm, k_norm = (b.weights.vector(f"{blk}.{n}_norm.weight", shape.d) for n in "qk")
    choice = choose(b, shape, q, k, q_norm, k_norm)
    return gated_attention(b, hp, layer, h, rope, choice)


def index_shape(hp: Hparams, layer: int, rope: Rotation) -> IndexShape:
    """A layer's index; its budget counts positions."""
    d, budget = hp.u32("attention.indexer.key_length"), hp.u32("attention.indexer.top_k")
    n_rot = 2 * len(rope.frequencies)
    if d < n_rot:
        key = hp.key("attention.indexer.key_length")
        hp.metadata.refuse(key, f"{d} is less than the {n_rot} dimensions that are rotated")
    bounds, key = integers("attention.compress_ratios"), hp.key("attention.compress_ratios")
    ratio = hp.metadata.per_layer(key, hp.n_blocks, low=bounds.low, high=bounds.high)[layer]
    if ratio < 2 or budget % ratio:
        hp.metadata.refuse(key, f"layer {layer}: {ratio} is no divisor of {budget} above 1")
    n_head = hp.u32("attention.indexer.head_count")
    return IndexShape(layer, n_head, d, ratio, budget // ratio, rope, hp.eps)


def ngram_layer(hp: Hparams) -> int:
    """The layer that n-grams are added before; -1: none is."""
    key = hp.key("ple.layers")
    if key not in hp.metadata:
        return -1
    layers = hp.metadata.get_array(key).tolist()
    # The file has one set of multipliers, and each layer would need its own.
    if len(layers) != 1 or layers[0] not in range(hp.n_layers):
        hp.metadata.refuse(key, f"{layers} is not one of {hp.n_layers} layers")
    return int(layers[0])


def ngram_shape(b: Builder, hp: Hparams) -> NgramShape:
    """How n-grams are hashed; every head's rows are within the table."""
    n, per_order = hp.u32("ple.ngram_size"), hp.u32("ple.heads_per_ngram")
    n_heads, n_rows = (n - 1) * per_order, b.weights.n_rows(TABLE)
    multipliers = whole_numbers(hp, "ple.layer_multipliers", n)
    starts = whole_numbers(hp, "ple.head_offsets", n_heads)
    sizes = whole_numbers(hp, "ple.head_vocab_sizes", n_heads)
    ends = [start + size for start, size in zip(starts, sizes, strict=True)]
    if min(sizes) < 1 or max(ends) > min(n_rows, np.iinfo(np.int32).max):
        hp.metadata.refuse(hp.key("ple.head_vocab_sizes"), f"a head is not in {n_rows} rows")
    return NgramShape(
        np.array(multipliers, np.uint64),
        np.array(sizes, np.uint64),
        np.array(starts, np.int64),
        per_order,
        hp.u32("ple.eos_token_id", high=hp.n_vocab - 1),
    )


def whole_numbers(hp: Hparams, name: str, n: int) -> list[int]:
    """The first ``n`` of a list of integers, none below 0."""
    key = hp.key(name)
    values = hp.metadata.get_array(key)
    if values.dtype.kind not in "iu" or len(values) < n or values[:n].min() < 0:
        hp.metadata.refuse(key, f"expected {n} integers, none below 0")
    return [int(value) for value in values[:n]]


def add_ngrams(b: Builder, hp: Hparams, blk: str, shape: StreamShape, x: Rows) -> None:
    """x += gated + silu(conv(norm(gated))), gated: a value of the n-grams for each stream."""
    width = hp.u32("embedding_length_per_layer_input", low=1)
    table = b.weights.table(TABLE, width, b.weights.n_rows(TABLE))
    e = ngram_embeddings(b, ngram_shape(b, hp), table)
    names = [f"{blk}.ple_{n}.weight" for n in ("key", "value")]
    key, value = b.linears(e, names, (shape.all, shape.width), "ngram_kv")
    key = stream_norm(b, shape, key, f"{blk}.ple_norm_key.weight", "ngram_key")
    query = stream_norm(b, shape, x, f"{blk}.ple_norm_query.weight", "ngram_query")
    gated = gate_streams(b, shape, key, query, value)
    n, n_taps = hp.u32("ple.ngram_size"), hp.u32("ple.conv_kernel")
    if (n_taps - 1) * n >= MAX_TAPS:
        hp.metadata.refuse(hp.key("ple.conv_kernel"), f"{n_taps} taps, {n} tokens apart")
    h = stream_norm(b, shape, gated, f"{blk}.ple_norm_conv.weight", "ngram_normed")
    y = short_conv(b, h, f"{blk}.ple_conv1d.weight", n_taps, silu=True, dilation=n, name="ngram")
    add_scaled(b, gated, y, 1.0)
    add_scaled(b, x, gated, 1.0)

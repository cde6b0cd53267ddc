"""Layer parts that encoders share, named as in their tensors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.operands import Address
from slotmux.runtime.lowering.attention import Rotation
from slotmux.runtime.lowering.both_ways import add_rows, attend_both_ways, text_tables
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import (
    attention_inputs,
    attention_shape,
    embedding,
    head_norm,
)
from slotmux.runtime.models.hparams import Hparams

N_TYPES_KEY = "tokenizer.ggml.token_type_count"


def text_embedding(b: Builder, hp: Hparams, *, has_positions: bool) -> Rows:
    """x = token_embd[token] + token_types[type] + position_embd[position], as far as the file has
    them."""
    x = embedding(b, hp)
    if b.weights.has("token_types.weight"):
        n_types = hp.metadata.get_u32(N_TYPES_KEY, 1, 1, 1024)
        types = b.weights.vector("token_types.weight", hp.n_embd, n_types)
        ids = text_tables(b.buffers, b.n_slots).types
        add_rows(b, x, types, Address(int(ids.ctypes.data)))
    if has_positions:
        table = b.weights.vector("position_embd.weight", hp.n_embd, hp.n_ctx_train)
        add_rows(b, x, table, b.step_address("positions"))
    return x


def attention_of_texts(
    b: Builder,
    hp: Hparams,
    layer: int,
    x: Rows,
    rotation: Rotation | None = None,
    window: int = 0,
    scale: float = 0.0,
    slopes: NDArray[np.float32] | None = None,
) -> Rows:
    """Softmax attention of each token over its whole text, or ``window`` tokens to either side;
    the output projection is the caller's."""
    blk = f"blk.{layer}"
    shape = attention_shape(hp, layer, rotation, window, scale)
    q, k, v = attention_inputs(b, x, blk, shape.qkv_sizes)
    q_norm = head_norm(b, f"{blk}.attn_q_norm.weight", hp.head_dim)
    k_norm = head_norm(b, f"{blk}.attn_k_norm.weight", hp.head_dim)
    return attend_both_ways(b, shape, q, k, v, q_norm, k_norm, slopes)


def is_windowed(hp: Hparams, layer: int, every: int, *, sees_all_first: bool) -> bool:
    """Whether a layer sees a window only: all do but the first or last of ``every`` layers, or as
    the file says (a number of layers, or a flag for each)."""
    key = hp.key("attention.sliding_window_pattern")
    stored = hp.metadata.get(key)
    if isinstance(stored, (list, np.ndarray)):
        flags = hp.metadata.get_array(key)
        if len(flags) < hp.n_layers:
            hp.metadata.refuse(key, f"{len(flags)} flags for {hp.n_layers} layers")
        return bool(flags[layer])
    every = hp.metadata.get_u32(key, every, 1, 1024)
    return layer % every != (0 if sees_all_first else every - 1)

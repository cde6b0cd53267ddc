"""Hyper-parameters as the file's metadata gives them, checked; and rotary frequencies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.exact import log, power
from slotmux.runtime.gguf import GGUFFile, Metadata
from slotmux.runtime.lowering.attention import Rotation
from slotmux.runtime.lowering.weights import Weights

MAX_LAYERS, MAX_WIDTH, MAX_HEADS = 1024, 1 << 20, 4096


@dataclass(frozen=True, slots=True)
class Hparams:
    """What most architectures have in common; families read their own keys from ``metadata``."""

    metadata: Metadata
    arch: str
    n_layers: int  # blocks that the trunk executes
    n_embd: int
    n_vocab: int
    n_ctx_train: int
    n_head: tuple[int, ...]  # per layer
    n_head_kv: tuple[int, ...]  # per layer, 0 = no attention
    head_dim: int
    v_dim: int
    n_ff: tuple[int, ...]
    eps: float

    @property
    def n_blocks(self) -> int:
        """Blocks of the file, those for multi-token prediction included."""
        return self.u32("block_count", high=MAX_LAYERS)

    def key(self, name: str) -> str:
        """Full name of one of the architecture's keys."""
        return f"{self.arch}.{name}"

    def u32(self, name: str, default: int | None = None, high: int = MAX_WIDTH) -> int:
        """An integer key of the architecture."""
        if default is None:
            return self.metadata.get_u32(self.key(name), high=high)
        return self.metadata.get_u32(self.key(name), default, high=high)

    def f32(self, name: str, default: float | None = None) -> float:
        """A float key of the architecture."""
        if default is None:
            return self.metadata.get_f32(self.key(name))
        return self.metadata.get_f32(self.key(name), default)

    @property
    def attention_scale(self) -> float:
        """Factor on scores before the softmax."""
        return self.f32("attention.scale", 0.0) or 1.0 / math.sqrt(self.head_dim)


def read_hparams(file: GGUFFile) -> Hparams:
    """Read and check; raises ModelFileError naming the key."""
    meta, arch = file.metadata, file.architecture
    n_blocks = meta.get_u32(f"{arch}.block_count", low=1, high=MAX_LAYERS)
    n_mtp = meta.get_u32(f"{arch}.nextn_predict_layers", 0, high=n_blocks - 1)
    n_embd = meta.get_u32(f"{arch}.embedding_length", low=1, high=MAX_WIDTH)
    n_head = meta.per_layer(f"{arch}.attention.head_count", n_blocks, 0, high=MAX_HEADS)
    kv = n_head
    if f"{arch}.attention.head_count_kv" in meta:
        kv = meta.per_layer(f"{arch}.attention.head_count_kv", n_blocks, high=MAX_HEADS)
    for heads, groups in zip(n_head, kv, strict=True):
        if groups and heads % groups:
            meta.refuse(f"{arch}.attention.head_count_kv", f"{groups} does not divide {heads}")
    default_dim = n_embd // max(n_head) if max(n_head) else 0
    embedding = file.tensors.get("token_embd.weight")
    n_vocab = embedding.shape[1] if embedding is not None and len(embedding.shape) == 2 else 0
    head_dim = meta.get_u32(f"{arch}.attention.key_length", default_dim, high=1024)
    return Hparams(
        metadata=meta,
        arch=arch,
        n_layers=n_blocks - n_mtp,
        n_embd=n_embd,
        n_vocab=n_vocab,
        n_ctx_train=meta.get_u32(f"{arch}.context_length", low=1, high=1 << 30),
        n_head=tuple(n_head),
        n_head_kv=tuple(kv),
        head_dim=head_dim,
        v_dim=meta.get_u32(f"{arch}.attention.value_length", head_dim, high=1024),
        n_ff=tuple(meta.per_layer(f"{arch}.feed_forward_length", n_blocks, 0, high=MAX_WIDTH)),
        eps=meta.get_f32(
            f"{arch}.attention.layer_norm_rms_epsilon",
            meta.get_f32(f"{arch}.attention.layer_norm_epsilon", 0.0),  # Nemotron-H
        ),
    )


def rope_frequencies(n_rot: int, base: float) -> NDArray[np.float64]:
    """base^(-2i / n_rot) for each pair i: radians per position (Su et al. 2021)."""
    return np.array([power(base, -2.0 * i / n_rot) for i in range(n_rot // 2)], np.float64)


def yarn(
    frequencies: NDArray[np.float64],
    n_rot: int,
    base: float,
    factor: float,
    n_ctx: int,
    fast: float,
    slow: float,
) -> NDArray[np.float64]:
    """Interpolate slow pairs, keep fast ones, ramp between (Peng et al. 2023, section 3.2)."""

    def pair(turns: float) -> float:
        return n_rot * log(n_ctx / (turns * 2 * math.pi)) / (2 * log(base))

    low, high = max(0.0, math.floor(pair(fast))), min(n_rot - 1.0, math.ceil(pair(slow)))
    ramp: NDArray[np.float64] = np.clip(
        (np.arange(n_rot // 2) - low) / max(high - low, 0.001), 0.0, 1.0
    )
    mixed: NDArray[np.float64] = frequencies / factor * ramp + frequencies * (1.0 - ramp)
    return mixed


def rotation(
    hp: Hparams, weights: Weights, neighbours: bool, base: float = 0.0, n_ctx: int = 0
) -> Rotation:
    """The file's rotary embedding with its scaling (linear, llama3's factors, yarn, longrope).

    ``base`` overrides ``rope.freq_base``, and then no scaling applies (gemma3's local layers).
    ``n_ctx``: positions a sequence may reach; longrope has other factors beyond the original ones.
    """
    n_rot = hp.u32("rope.dimension_count", hp.head_dim, high=hp.head_dim)
    if n_rot % 2:
        hp.metadata.refuse(hp.key("rope.dimension_count"), f"{n_rot} is odd")
    if base:
        return Rotation(tuple(rope_frequencies(n_rot, base)), neighbours)
    base = hp.f32("rope.freq_base", 10000.0)
    frequencies = rope_frequencies(n_rot, base)
    magnitude = hp.f32("rope.scaling.attn_factor", 1.0)
    original = hp.u32("rope.scaling.original_context_length", hp.n_ctx_train, high=1 << 30)
    if weights.has("rope_freqs.weight"):
        frequencies = frequencies / weights.vector("rope_freqs.weight", n_rot // 2)
    elif weights.has("rope_factors_long.weight"):
        long, short = (
            weights.vector(f"rope_factors_{name}.weight", n_rot // 2) for name in ("long", "short")
        )
        frequencies = frequencies / (long if n_ctx > original else short)
    factor = hp.f32("rope.scaling.factor", hp.f32("rope.scale_linear", 1.0))
    # As llama.cpp reads files: a factor without a type is linear.
    kind = hp.metadata.get_str(hp.key("rope.scaling.type"), "linear")
    if kind == "linear":
        frequencies = frequencies / (factor or 1.0)
    elif kind == "yarn":
        fast = hp.f32("rope.scaling.yarn_beta_fast", 32.0)
        slow = hp.f32("rope.scaling.yarn_beta_slow", 1.0)
        if factor <= 0.0:
            hp.metadata.refuse(hp.key("rope.scaling.factor"), f"yarn cannot scale by {factor}")
        frequencies = yarn(frequencies, n_rot, base, factor, original, fast, slow)
        magnitude *= 1.0 + 0.1 * log(factor)
    elif kind not in ("none", "longrope"):
        hp.metadata.refuse(hp.key("rope.scaling.type"), f"{kind!r} is not supported")
    return Rotation(tuple(float(f) for f in frequencies), neighbours, magnitude)

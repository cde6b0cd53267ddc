"""Hyper-parameters as the file's metadata gives them, checked; and rotary frequencies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.exact import log, power
from slotmux.runtime.gguf import GGUFFile, Metadata, ModelFileError
from slotmux.runtime.lowering.attention import Rotation
from slotmux.runtime.lowering.weights import Weights
from slotmux.runtime.models.architectures import check_architecture, n_draft_blocks
from slotmux.runtime.models.ranges import floats, integers

# Families without an RMS norm of their own: what eps means to them has another key.
_LAYER_NORMED = ("phi2", "rwkv6", "rwkv7")


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
        return self.u32("block_count")

    def key(self, name: str) -> str:
        """Full name of one of the architecture's keys."""
        return f"{self.arch}.{name}"

    def u32(
        self, name: str, default: int | None = None, low: int | None = None, high: int | None = None
    ) -> int:
        """An integer key of the architecture, in its range (see ranges.py) and not beyond ``low``
        and ``high``, where other keys bound it further."""
        bounds = integers(name)
        low = bounds.low if low is None else low
        high = bounds.high if high is None else min(high, bounds.high)
        if default is None:
            return self.metadata.get_u32(self.key(name), low=low, high=high)
        return self.metadata.get_u32(self.key(name), default, low, high)

    def f32(self, name: str, default: float | None = None) -> float:
        """A float key of the architecture, in its range."""
        bounds, key = floats(name), self.key(name)
        value = self.metadata.get(key)
        if bounds.or_zero and isinstance(value, float) and value == 0.0:
            return value
        if default is None:
            return self.metadata.get_f32(key, low=bounds.low, high=bounds.high)
        return self.metadata.get_f32(key, default, bounds.low, bounds.high)

    def f32s(self, key: str) -> list[float]:
        """A float for each block of the file, in its range, stored as one or as an array. The key
        is one without the architecture's name."""
        bounds = floats(key)
        if not isinstance(self.metadata.get(key), np.ndarray):
            return [self.metadata.get_f32(key, low=bounds.low, high=bounds.high)] * self.n_blocks
        values = [float(value) for value in self.metadata.get_array(key)]
        if len(values) != self.n_blocks:
            self.metadata.refuse(key, f"{len(values)} values for {self.n_blocks} layers")
        if not all(bounds.low <= value <= bounds.high for value in values):
            self.metadata.refuse(key, f"a value is not between {bounds.low} and {bounds.high}")
        return values

    def flag(self, name: str, default: bool) -> bool:
        """A bool key of the architecture."""
        return self.metadata.get_bool(self.key(name), default)

    def flags(self, name: str, default: bool | None = None) -> list[bool]:
        """A bool for each block of the file, stored as one or as an array."""
        if default is None:
            return self.metadata.per_layer_bool(self.key(name), self.n_blocks)
        return self.metadata.per_layer_bool(self.key(name), self.n_blocks, default)

    def heads(self, layer: int) -> tuple[int, int]:
        """Query and KV heads of a layer that has attention; refuses none."""
        for name, count in (("", self.n_head), ("_kv", self.n_head_kv)):
            if not count[layer]:
                key = self.key(f"attention.head_count{name}")
                self.metadata.refuse(key, f"layer {layer} has attention and no heads")
        if not self.head_dim:
            self.metadata.refuse(self.key("attention.head_count"), "more heads than dimensions")
        return self.n_head[layer], self.n_head_kv[layer]

    @property
    def attention_scale(self) -> float:
        """Factor on scores before the softmax."""
        return self.f32("attention.scale", 0.0) or 1.0 / math.sqrt(self.head_dim)


def read_hparams(file: GGUFFile) -> Hparams:
    """Read and check; raises ModelFileError naming the key and the file."""
    check_architecture(file)
    meta, arch = file.metadata, file.architecture

    def u32(name: str, default: int | None = None) -> int:
        low, high = integers(name).low, integers(name).high
        if default is None:
            return meta.get_u32(f"{arch}.{name}", low=low, high=high)
        return meta.get_u32(f"{arch}.{name}", default, low, high)

    n_blocks, n_embd = u32("block_count"), u32("embedding_length")

    def per_layer(name: str) -> tuple[int, ...]:
        bounds = integers(name)
        return tuple(
            meta.per_layer(f"{arch}.{name}", n_blocks, 0, low=bounds.low, high=bounds.high)
        )

    n_head = per_layer("attention.head_count")
    has_kv = f"{arch}.attention.head_count_kv" in meta
    kv = per_layer("attention.head_count_kv") if has_kv else n_head
    for heads, groups in zip(n_head, kv, strict=True):
        if groups and heads % groups:
            meta.refuse(f"{arch}.attention.head_count_kv", f"{groups} does not divide {heads}")
    head_dim = u32("attention.key_length", n_embd // max(n_head) if max(n_head) else 0)
    return Hparams(
        metadata=meta,
        arch=arch,
        n_layers=n_blocks - n_draft_blocks(file, n_blocks),
        n_embd=n_embd,
        n_vocab=_n_vocab(file),
        n_ctx_train=u32("context_length"),
        n_head=n_head,
        n_head_kv=kv,
        head_dim=head_dim,
        v_dim=u32("attention.value_length", head_dim),
        n_ff=per_layer("feed_forward_length"),
        eps=_eps(meta, arch),
    )


def _n_vocab(file: GGUFFile) -> int:
    """Rows of the embedding, which says how many tokens there are."""
    name = "token_embd.weight"
    embedding = file.tensors.get(name)
    if embedding is None:
        raise ModelFileError(name, None, "this tensor is missing", file.paths[0])
    if len(embedding.shape) != 2:
        reason = f"shape {list(embedding.shape)}, but two dimensions are needed"
        raise ModelFileError(name, embedding.offset, reason, file.paths[0])
    return embedding.shape[1]


def _eps(meta: Metadata, arch: str) -> float:
    """What norms add to a variance: of RMS norms, or (Nemotron-H) of layer norms."""
    names = ["attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"]
    if arch in _LAYER_NORMED:
        names.reverse()
    name = next((name for name in names if f"{arch}.{name}" in meta), names[0])
    return meta.get_f32(f"{arch}.{name}", low=floats(name).low, high=floats(name).high)


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


def _divisors(weights: Weights, name: str, n: int) -> NDArray[np.float32]:
    """A tensor of factors that rotations are slowed by; refuses what no frequency can be."""
    values = weights.vector(name, n)
    if not (np.isfinite(values).all() and (values > 0.0).all()):
        weights.refuse(name, "a factor of a frequency has to be above 0")
    return values


def rotation(
    hp: Hparams,
    weights: Weights,
    neighbours: bool,
    base: float = 0.0,
    n_ctx: int = 0,
    n_rot: int = 0,
) -> Rotation:
    """The file's rotary embedding with its scaling (linear, llama3's factors, yarn, longrope).

    ``base`` overrides ``rope.freq_base``, and then no scaling applies (gemma3's local layers).
    ``n_rot`` overrides ``rope.dimension_count``.
    ``n_ctx``: positions a sequence may reach; longrope has other factors beyond the original ones.
    """
    n_rot = n_rot or hp.u32("rope.dimension_count", hp.head_dim, high=hp.head_dim)
    if n_rot % 2:
        hp.metadata.refuse(hp.key("rope.dimension_count"), f"{n_rot} is odd")
    if base:
        return Rotation(tuple(rope_frequencies(n_rot, base)), neighbours)
    base = hp.f32("rope.freq_base", 10000.0)
    frequencies = rope_frequencies(n_rot, base)
    magnitude = hp.f32("rope.scaling.attn_factor", 1.0)
    original = hp.u32("rope.scaling.original_context_length", hp.n_ctx_train)
    if weights.has("rope_freqs.weight"):
        frequencies = frequencies / _divisors(weights, "rope_freqs.weight", n_rot // 2)
    elif weights.has("rope_factors_long.weight"):
        long, short = (
            _divisors(weights, f"rope_factors_{name}.weight", n_rot // 2)
            for name in ("long", "short")
        )
        frequencies = frequencies / (long if n_ctx > original else short)
    factor = hp.f32("rope.scaling.factor", hp.f32("rope.scale_linear", 1.0)) or 1.0
    # As llama.cpp reads files: a factor without a type is linear.
    kind = hp.metadata.get_str(hp.key("rope.scaling.type"), "linear")
    if kind == "linear":
        frequencies = frequencies / factor
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

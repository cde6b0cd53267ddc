"""The range of every hyper-parameter that a model file may set: the one place that bounds them.

Far around what is published, and narrow enough that no value inside overflows, divides by zero or
asks for memory that no machine has. What a key must be beside other keys (a divisor, a smaller
number) is checked where both are known.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_LAYERS, MAX_WIDTH, MAX_HEADS = 1024, 1 << 20, 4096
MAX_POSITIONS = 1 << 30
MAX_EXPERTS = 4096


@dataclass(frozen=True, slots=True)
class Integers:
    """Integers of any stored width, ``low`` and ``high`` included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Floats:
    """Finite floats, ``low`` and ``high`` included; ``or_zero``: also 0, for "there is none"."""

    low: float
    high: float
    or_zero: bool = False


_LAYERS = Integers(0, MAX_LAYERS)
_WIDTH, _SOME_WIDTH = Integers(0, MAX_WIDTH), Integers(1, MAX_WIDTH)
_HEADS, _SOME_HEADS = Integers(0, MAX_HEADS), Integers(1, MAX_HEADS)
_TAPS = Integers(2, 16)
_EPSILON = Floats(1e-20, 1.0)  # 0 would divide a row of zeros by zero
_FACTOR = Floats(1e-6, 1e6, or_zero=True)
_BASE = Floats(2.0, 1e15)  # of a geometric series that has to fall

# By the key without its architecture.
RANGES: dict[str, Integers | Floats] = {
    "block_count": Integers(1, MAX_LAYERS),
    "nextn_predict_layers": _LAYERS,
    "embedding_length": _SOME_WIDTH,
    "context_length": Integers(1, MAX_POSITIONS),
    "feed_forward_length": _WIDTH,
    "leading_dense_block_count": _LAYERS,
    "full_attention_interval": Integers(1, MAX_LAYERS),
    "rescale_every_n_layers": _LAYERS,
    "moe_every_n_layers": _LAYERS,
    "embedding_scale": _FACTOR,
    "residual_scale": _FACTOR,
    "logit_scale": _FACTOR,
    "final_logit_softcapping": _FACTOR,
    "attn_logit_softcapping": _FACTOR,
    "attention.head_count": _HEADS,
    "attention.head_count_kv": _HEADS,
    "attention.key_length": Integers(1, 1024),
    "attention.value_length": Integers(1, 1024),
    "attention.key_length_mla": Integers(2, 1024),
    "attention.value_length_mla": Integers(1, 1024),
    "attention.kv_lora_rank": Integers(1, 1024),
    "attention.q_lora_rank": _SOME_WIDTH,
    "attention.key_length_swa": Integers(1, 1024),
    "attention.value_length_swa": Integers(1, 1024),
    "attention.shared_kv_layers": _LAYERS,
    "embedding_length_per_layer_input": _WIDTH,
    "attention.scale": _FACTOR,
    "attention.temperature_scale": _FACTOR,
    "attention.sliding_window": Integers(0, MAX_POSITIONS),
    "attention.layer_norm_epsilon": _EPSILON,
    "attention.layer_norm_rms_epsilon": _EPSILON,
    "attention.value_residual_mix_lora_rank": _SOME_WIDTH,
    "attention.decay_lora_rank": _SOME_WIDTH,
    "attention.iclr_lora_rank": _SOME_WIDTH,
    "attention.gate_lora_rank": _SOME_WIDTH,
    "altup.num_inputs": Integers(2, 16),
    "altup.active_idx": Integers(0, 15),
    "rope.dimension_count": Integers(2, 1024),
    "rope.dimension_count_swa": Integers(2, 1024),
    "rope.freq_base": _BASE,
    "rope.freq_base_swa": _BASE,
    "rope.scale_linear": _FACTOR,
    "rope.scaling.factor": _FACTOR,
    "rope.scaling.attn_factor": Floats(1e-6, 1e6),
    "rope.scaling.original_context_length": Integers(1, MAX_POSITIONS),
    "rope.scaling.yarn_log_multiplier": _FACTOR,
    "rope.scaling.yarn_beta_fast": Floats(1e-3, 1e6),
    "rope.scaling.yarn_beta_slow": Floats(1e-3, 1e6),
    "expert_count": Integers(0, MAX_EXPERTS),
    "expert_used_count": Integers(0, MAX_EXPERTS),
    "expert_feed_forward_length": _SOME_WIDTH,
    "expert_shared_feed_forward_length": _WIDTH,
    "expert_gating_func": Integers(0, 64),
    "expert_group_count": Integers(0, MAX_EXPERTS),
    "expert_group_used_count": Integers(0, MAX_EXPERTS),
    "expert_shared_count": Integers(0, 64),
    "interleave_moe_layer_step": Integers(1, MAX_LAYERS),
    "expert_weights_scale": _FACTOR,
    "moe_latent_size": _SOME_WIDTH,
    "adapters.count": Integers(1, MAX_EXPERTS),
    "adapters.lora_rank": Integers(1, MAX_EXPERTS),
    # Softplus is taken of the first two, so they may be anything.
    "xielu.alpha_n": Floats(-1e4, 1e4),
    "xielu.alpha_p": Floats(-1e4, 1e4),
    "xielu.beta": Floats(-1e4, 1e4),
    "xielu.eps": Floats(-1.0, 0.0),
    "ssm.conv_kernel": _TAPS,
    "ssm.inner_size": Integers(1, 1 << 17),
    "ssm.state_size": Integers(1, 4096),
    "ssm.time_step_rank": Integers(1, 1 << 17),
    "ssm.group_count": _SOME_HEADS,
    "hyper_connection.count": Integers(2, 16),
    "hyper_connection.low_rank": _SOME_WIDTH,
    "attention.indexer.head_count": _SOME_HEADS,
    "attention.indexer.key_length": Integers(1, 1024),
    "attention.indexer.top_k": Integers(1, MAX_POSITIONS),
    "attention.compress_ratios": Integers(0, 1 << 16),
    "ple.ngram_size": Integers(2, 16),
    "ple.heads_per_ngram": Integers(1, 64),
    "ple.conv_kernel": _TAPS,
    "ple.eos_token_id": Integers(0, (1 << 31) - 1),
    "kda.head_dim": Integers(16, 1024),
    "kda.gate_lower_bound": Floats(-1e3, -1e-3),
    "shortconv.l_cache": _TAPS,
    "wkv.head_size": Integers(1, 1024),
    "time_mix_extra_dim": _SOME_WIDTH,
    "time_decay_extra_dim": _SOME_WIDTH,
}


def integers(name: str) -> Integers:
    """The range of an integer key."""
    bounds = RANGES[name]
    assert isinstance(bounds, Integers), name
    return bounds


def floats(name: str) -> Floats:
    """The range of a float key."""
    bounds = RANGES[name]
    assert isinstance(bounds, Floats), name
    return bounds

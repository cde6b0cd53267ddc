"""What families of experts share: how experts are chosen by the file's keys, and shared experts."""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.experts.moe import MoeShape, moe
from slotmux.runtime.models.blocks import gated_ffn, project
from slotmux.runtime.models.hparams import Hparams

SCORES = {1: "softmax", 2: "sigmoid", 3: "chosen"}  # expert_gating_func


def expert_shape(
    hp: Hparams,
    n_ff: int = 0,
    *,
    function: int = 1,
    renormalise: bool = False,
    activation: str = "silu",
    factor: float = 1.0,
) -> MoeShape:
    """Experts by the file's keys; ``n_ff``, ``function``, ``renormalise``: where it has no key.

    ``factor``: a further one on the weights.
    """
    n_expert = hp.u32("expert_count", low=1)
    function = hp.u32("expert_gating_func", function) or function
    if function not in SCORES:
        hp.metadata.refuse(hp.key("expert_gating_func"), f"{function} is not supported")
    n_used = hp.u32("expert_used_count", low=1, high=n_expert)
    n_groups, n_groups_used = _groups(hp, n_expert, n_used)
    return MoeShape(
        n_expert=n_expert,
        n_used=n_used,
        n_ff=hp.u32("expert_feed_forward_length", n_ff or None),
        scores=SCORES[function],
        renormalise=hp.flag("expert_weights_norm", renormalise),
        scale=(hp.f32("expert_weights_scale", 1.0) or 1.0) * factor,
        activation=activation,
        n_groups=n_groups,
        n_groups_used=n_groups_used,
    )


def _groups(hp: Hparams, n_expert: int, n_used: int) -> tuple[int, int]:
    """Groups of neighbouring experts, and how many of them are chosen from."""
    n_groups = max(1, hp.u32("expert_group_count", 1))
    if n_groups == 1:
        return 1, 1
    key = hp.key("expert_group_count")
    if n_expert % n_groups or n_expert // n_groups < 2:
        hp.metadata.refuse(key, f"{n_expert} experts are no {n_groups} groups of two or more")
    n_groups_used = hp.u32("expert_group_used_count", low=1, high=n_groups)
    if n_groups_used * (n_expert // n_groups) < n_used:
        hp.metadata.refuse(key, f"{n_groups_used} groups have fewer than {n_used} experts")
    return n_groups, n_groups_used


def experts_layer(
    b: Builder, hp: Hparams, layer: int, h: Rows, x: Rows, shape: MoeShape, n_shared: int
) -> None:
    """x += experts of h, and one of ``n_shared`` inputs that every token takes (0: none)."""
    blk = f"blk.{layer}"
    if n_shared:
        f = gated_ffn(b, h, blk, n_shared, suffix="_shexp")
        project(b, f, f"{blk}.ffn_down_shexp.weight", x)
    moe(b, blk, h, shape, x)


def dense_layer(b: Builder, hp: Hparams, layer: int, h: Rows, x: Rows) -> None:
    """x += SwiGLU of h"""
    blk = f"blk.{layer}"
    project(b, gated_ffn(b, h, blk, hp.n_ff[layer]), f"{blk}.ffn_down.weight", x)

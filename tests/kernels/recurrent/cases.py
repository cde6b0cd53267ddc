"""Every recurrent op at odd and at published sizes: the one list that a new op is added to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from slotmux.kernels.team import Team
from tests.kernels.recurrent.ops.base import OpCase
from tests.kernels.recurrent.ops.conv import Conv
from tests.kernels.recurrent.ops.delta_net import DeltaNet
from tests.kernels.recurrent.ops.kda import Kda
from tests.kernels.recurrent.ops.mamba import Mamba1, Mamba2
from tests.kernels.recurrent.ops.rwkv import GatedLinear, Shift, Wkv


@dataclass(frozen=True, slots=True)
class Case:
    """An op: ``make(team, n_tokens)``, how near its twin it must be (relative to values near 1,
    absolute below), and whether it writes 8-bit activations."""

    make: Callable[[Team, int], OpCase]
    rtol: float
    atol: float
    has_tiles: bool = False


def _conv(n: int, n_taps: int, silu: bool, bias: bool, products: bool) -> Case:
    options = {"silu": silu, "bias": bias, "products": products}
    make = partial(Conv, n=n, n_taps=n_taps, **options)
    return Case(make, 1e-5, 1e-5, n % 32 == 0)


def _delta_net(d: int, k_heads: list[int]) -> Case:
    return Case(partial(DeltaNet, d=d, k_heads=k_heads), 2e-4, 2e-6)


def _kda(d: int, n_heads: int, bound: float) -> Case:
    return Case(partial(Kda, d=d, n_heads=n_heads, bound=bound), 2e-4, 2e-6)


def _mamba1(n: int, n_state: int) -> Case:
    return Case(partial(Mamba1, n=n, n_state=n_state), 1e-4, 3e-5, n % 32 == 0)


def _mamba2(n_head: int, head_dim: int, n_group: int, n_state: int) -> Case:
    sizes = {"n_head": n_head, "head_dim": head_dim, "n_group": n_group, "n_state": n_state}
    return Case(partial(Mamba2, **sizes), 1e-4, 1e-4)


def _wkv(version: int, n_heads: int, d: int, is_bare: bool = False) -> Case:
    make = partial(Wkv, version=version, n_heads=n_heads, d=d, is_bare=is_bare)
    return Case(make, 2e-4, 2e-4, d % 32 == 0)


def _gated_linear(n_heads: int, n_groups: int, d: int) -> Case:
    make = partial(GatedLinear, n_heads=n_heads, n_groups=n_groups, d=d)
    return Case(make, 2e-4, 2e-4, d % 32 == 0)


def _shift(n: int, is_difference: bool) -> Case:
    return Case(partial(Shift, n=n, is_difference=is_difference), 1e-6, 1e-6)


CASES = {
    "conv, one channel": _conv(1, 2, silu=False, bias=True, products=False),
    "conv": _conv(150, 4, silu=True, bias=True, products=False),
    "conv of products": _conv(160, 3, silu=False, bias=False, products=True),
    "conv, all of it": _conv(272, 8, silu=True, bias=True, products=True),
    "delta net, one block": _delta_net(16, [0, 1, 0, 1]),
    "delta net, one head": _delta_net(64, [0]),
    "delta net, qwen35's order": _delta_net(48, [0, 1, 2, 0, 1, 2]),
    "delta net, qwen3next's order": _delta_net(32, [0, 0, 1, 1]),
    "delta net, published size": _delta_net(128, [0, 1, 0]),
    "kda, one block": _kda(16, 3, 0.0),
    "kda, one head": _kda(64, 1, 0.0),
    "kda, bounded": _kda(48, 2, -5.0),
    "kda, published size": _kda(128, 2, -5.0),
    "mamba, one": _mamba1(1, 1),
    "mamba": _mamba1(96, 16),
    "mamba, odd": _mamba1(40, 5),
    "mamba, wide": _mamba1(160, 35),
    "mamba2, one vector": _mamba2(1, 16, 1, 16),
    "mamba2, odd": _mamba2(6, 20, 2, 17),
    "mamba2, small heads": _mamba2(17, 5, 1, 3),
    "mamba2, a group a head": _mamba2(4, 32, 4, 35),
    "mamba2, published size": _mamba2(4, 64, 2, 128),
    "rwkv6": _wkv(6, 2, 64),
    "rwkv6, odd": _wkv(6, 2, 20),
    "rwkv6, one small head": _wkv(6, 1, 5),
    "rwkv6, wide": _wkv(6, 2, 96),
    "rwkv7": _wkv(7, 2, 64),
    "rwkv7, odd": _wkv(7, 3, 20),
    "rwkv7, one small head": _wkv(7, 1, 5),
    "rwkv7, wide": _wkv(7, 2, 96),
    "rwkv7, no norm and no gate": _wkv(7, 2, 64, is_bare=True),
    "gated linear, published size": _gated_linear(4, 2, 128),
    "gated linear, odd": _gated_linear(6, 3, 20),
    "gated linear, one small head": _gated_linear(1, 1, 5),
    "gated linear, one group": _gated_linear(3, 1, 96),
    "difference to the token before": _shift(600, True),
    "token before": _shift(33, False),
}

"""apertus (Apertus 8B, 70B): q and k heads RMS-normed; no gate, but down(xielu(up x)).

The file has the activation's factors as they were trained: xIELU takes their softplus.
"""

from __future__ import annotations

from slotmux.kernels.ops.dense.xielu import Xielu
from slotmux.runtime.exact import exp, log
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.blocks import biased_linear
from slotmux.runtime.models.dense.llama import dense_layers
from slotmux.runtime.models.hparams import Hparams


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    return dense_layers(b, hp, neighbours=False, feed_forward=xielu)


def xielu(b: Builder, hp: Hparams, layer: int, h: Rows) -> Rows:
    """xielu(ffn_up h)"""
    up = biased_linear(b, h, f"blk.{layer}.ffn_up", hp.n_ff[layer], "up")
    alpha_n, alpha_p, beta, eps = (
        hp.f32s(f"xielu.{name}")[layer] for name in ("alpha_n", "alpha_p", "beta", "eps")
    )
    out = b.buffers.rows("xielu", up.width, up.n_rows)
    factors = {"alpha_p": softplus(alpha_p), "alpha_n": beta + softplus(alpha_n)}
    b.append(Xielu(x=up, beta=beta, most=eps, out=out, **factors))
    return out


def softplus(x: float) -> float:
    """log(1 + e^x)"""
    return x if x > 30.0 else log(1.0 + exp(x))

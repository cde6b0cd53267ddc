"""The residual streams of Gemma 3n (see kernels/ops/dense/altup.py)."""

from __future__ import annotations

from slotmux.kernels.ops.dense.altup import (
    ALTUP_CORRECT,
    ALTUP_PREDICT,
    GAUSSIAN_TOPK,
    MATCH,
    build_altup_correct,
    build_altup_predict,
    build_gaussian_topk,
    build_match,
)
from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder


def altup_predict(b: Builder, x: Rows, n_streams: int, coefficients: Rows) -> Rows:
    """Each stream of x predicted from all: [n_tokens, n_streams * n_embd]."""
    out = b.buffers.rows("predictions", x.width)
    b.append(
        "altup_predict",
        build_altup_predict,
        ALTUP_PREDICT,
        {
            "x": x.address,
            "out": out.address,
            "stride": x.stride,
            "n_streams": n_streams,
            "n": x.width // n_streams,
            "coef": coefficients.address,
            "coef_stride": coefficients.stride,
        },
        [x.span, coefficients.span],
        [out.span],
    )
    return out


def altup_correct(
    b: Builder, x: Rows, n_streams: int, y: Rows, active: int, coefficients: Rows
) -> None:
    """Correct the predictions x in place by what the active stream became."""
    b.append(
        "altup_correct",
        build_altup_correct,
        ALTUP_CORRECT,
        {
            "x": x.address,
            "stride": x.stride,
            "n_streams": n_streams,
            "n": x.width // n_streams,
            "y": y.address,
            "y_stride": y.stride,
            "active": active,
            "coef": coefficients.address,
            "coef_stride": coefficients.stride,
        },
        [x.span, y.span, coefficients.span],
        [x.span],
    )


def match_magnitude(b: Builder, x: Rows, y: Rows) -> None:
    """Scale each row of x to the magnitude of y's."""
    b.append(
        "match",
        build_match,
        MATCH,
        {
            "x": x.address,
            "x_stride": x.stride,
            "y": y.address,
            "y_stride": y.stride,
            "n": x.width,
        },
        [x.span, y.span],
        [x.span],
    )


def gaussian_topk(b: Builder, x: Rows, factor: float) -> None:
    """Keep what of a row stands ``factor`` deviations above its mean, less that, in place."""
    b.append(
        "gaussian_topk",
        build_gaussian_topk,
        GAUSSIAN_TOPK,
        {"x": x.address, "stride": x.stride, "n": x.width, "factor": b.scalar(factor)},
        [x.span],
        [x.span],
    )

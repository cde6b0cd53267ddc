"""Twins of kernels/ops/dense/elementwise.py in float64."""

from __future__ import annotations

import numpy as np


def sigmoid(x):
    """1 / (1 + e^-x)"""
    return 1.0 / (1.0 + np.exp(-x))


# name: f(x, y, z, v, c)
FORMULAS = {
    "tanh": lambda x, y, z, v, c: np.tanh(x),
    "sigmoid": lambda x, y, z, v, c: sigmoid(x),
    "sigmoid_bias": lambda x, y, z, v, c: sigmoid(x + v),
    "lerp": lambda x, y, z, v, c: x + y * v,
    "lerp_delta": lambda x, y, z, v, c: x + y * (v + z),
    "mix_bias": lambda x, y, z, v, c: x + (y - x) * sigmoid(z + v),
    "decay": lambda x, y, z, v, c: np.exp(-np.exp(x + v)),
    "decay_sigmoid": lambda x, y, z, v, c: np.exp(c * sigmoid(x + v)),
    "add_scaled": lambda x, y, z, v, c: x + c * y,
    "add_gated": lambda x, y, z, v, c: x + y * sigmoid(z),
    "scale": lambda x, y, z, v, c: c * x,
    "silu_scaled": lambda x, y, z, v, c: c * x * sigmoid(c * x),
    "times": lambda x, y, z, v, c: x * v,
    "copy": lambda x, y, z, v, c: y,
    "softcap": lambda x, y, z, v, c: c * np.tanh(x / c),
}

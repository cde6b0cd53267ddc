"""Twins of kernels/ops/dense/streams.py in float64; x [rows, streams, n]."""

from __future__ import annotations

import numpy as np

from tests.reference.elementwise import sigmoid


def stream_norm(x, weight, eps):
    """weight [streams, n]"""
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def mix_streams(x, gate):
    """gate as x -> [rows, n]"""
    return (sigmoid(gate) * x).mean(1)


def spread_streams(x, y, weight):
    """y [rows, n], weight [rows, streams]"""
    factor = 2 * sigmoid(weight / x.shape[1])
    return x + y[:, None] * factor[:, :, None]


def gate_streams(key, query, value):
    """value [rows, n] -> [rows, streams, n]"""
    score = (key * query).sum(-1) / np.sqrt(key.shape[-1])
    root = np.sqrt(np.maximum(np.abs(score), 1e-6)) * np.sign(score)
    return sigmoid(root)[:, :, None] * value[:, None]

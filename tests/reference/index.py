"""Twins of kernels/ops/attention/index.py and choose.py in float64."""

from __future__ import annotations

import numpy as np


def block_keys(x, ratio, weight, eps, frequency, magnitude):
    """Raw keys x [T, d] -> [T // ratio, d]"""
    n, n_pairs = len(x) // ratio, len(frequency)
    mean = x[: n * ratio].astype(np.float64).reshape(n, ratio, -1).mean(1)
    key = mean / np.sqrt((mean**2).mean(-1, keepdims=True) + eps) * weight
    angle = np.outer(np.arange(n) * ratio, frequency)
    cos, sin = magnitude * np.cos(angle), magnitude * np.sin(angle)
    a, b = key[:, :n_pairs].copy(), key[:, n_pairs : 2 * n_pairs].copy()
    key[:, :n_pairs], key[:, n_pairs : 2 * n_pairs] = a * cos - b * sin, a * sin + b * cos
    return key


def chosen_blocks(q, keys, n_most):
    """q [heads, d], keys [n, d] of the complete blocks -> which are attended to, ascending"""
    scores = np.maximum(q @ keys.T, 0.0).sum(0)
    return np.sort(np.argsort(-scores, kind="stable")[:n_most])

"""Plain NumPy twins of the dense ops: RMS norm and gated activations, from their formulas."""

import math

import numpy as np


def rms_norm(x, weight, eps):
    """x / sqrt(mean(x^2) + eps) * weight, over the last axis, in float64."""
    x = x.astype(np.float64)
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps) * weight


def silu(x):
    return x / (1.0 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def relu2(x):
    return np.maximum(x, 0.0) ** 2


def gelu_erf(x):
    return 0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


def xielu(x, *, alpha_p, alpha_n, beta, most):
    above = alpha_p * x * x + beta * x
    below = alpha_n * (np.expm1(np.minimum(x, most)) - x) + beta * x
    return np.where(x > 0.0, above, below)


ACTIVATIONS = {"silu": silu, "gelu": gelu, "gelu_erf": gelu_erf, "relu2": relu2}

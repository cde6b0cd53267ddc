"""From a model's layer list to a program of ops: buffers, weights, memory, dependencies."""

from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.weights import Weights

__all__ = ["Builder", "Weights"]

"""Models that transformers has not, written here from their descriptions, in PyTorch.

A module has a class ``Model`` (a ``Written``) whose parameters are named and laid out as in
published checkpoints, so that llama.cpp's own converter reads them. They compute in float64, a
token after the other, apart from llama.cpp's graphs and from our kernels.
"""

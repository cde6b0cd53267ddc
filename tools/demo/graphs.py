"""One step's losses and gradients, on a GPU replayed from a graph: launching some thousand kernels
one by one takes Python longer than running them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Losses = Callable[[Tensor, Tensor, int], Tensor]  # tokens, weights, n_passes -> [n], summed up


class Step(Protocol):
    """Fills the gradients of all parameters; returns the losses."""

    def __call__(self, tokens: Tensor, weights: Tensor, n_passes: int) -> Tensor: ...


class PlainStep:
    """Forward and backward, launched one by one."""

    def __init__(self, model: nn.Module, losses: Losses) -> None:
        self.params = list(model.parameters())
        self.losses = losses

    def __call__(self, tokens: Tensor, weights: Tensor, n_passes: int) -> Tensor:
        for p in self.params:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        torch._foreach_zero_([p.grad for p in self.params])
        found = self.losses(tokens, weights, n_passes)
        found.sum().backward()
        return found.detach()


class GraphedStep:
    """A graph for each shape of a batch and number of passes. Raises RuntimeError when the first
    one does not give what launching one by one gives."""

    def __init__(self, plain: PlainStep) -> None:
        self.plain = plain
        self.graphs: dict[Any, tuple[torch.cuda.CUDAGraph, Tensor, Tensor, Tensor]] = {}
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, tokens: Tensor, weights: Tensor, n_passes: int) -> Tensor:
        key = tokens.shape, n_passes
        if key not in self.graphs:
            self.graphs[key] = self._capture(tokens, weights, n_passes)
            if len(self.graphs) == 1:
                self._check(tokens, weights, n_passes)
        return self._replay(tokens, weights, n_passes)

    def _replay(self, tokens: Tensor, weights: Tensor, n_passes: int) -> Tensor:
        graph, kept_tokens, kept_weights, found = self.graphs[tokens.shape, n_passes]
        kept_tokens.copy_(tokens)
        kept_weights.copy_(weights)
        graph.replay()
        return found

    def _capture(self, tokens: Tensor, weights: Tensor, n_passes: int) -> Any:
        kept_tokens, kept_weights = tokens.clone(), weights.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self.plain(kept_tokens, kept_weights, n_passes)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            found = self.plain(kept_tokens, kept_weights, n_passes)
        return graph, kept_tokens, kept_weights, found

    def _check(self, tokens: Tensor, weights: Tensor, n_passes: int) -> None:
        """On other tokens than those of the capture."""
        tokens = tokens.flip(0)
        weights = weights.flip(0)
        expected = self.plain(tokens, weights, n_passes).clone()
        wanted = [p.grad.clone() for p in self.plain.params]
        found = self._replay(tokens, weights, n_passes)
        grads = [p.grad for p in self.plain.params]
        errors = [
            float((a - b).norm() / (a.norm() + 1e-12)) for a, b in zip(wanted, grads, strict=True)
        ]
        if float((found - expected).abs().max()) > 0.01 or max(errors) > 0.05:
            raise RuntimeError(f"graph and launches differ: {found}, {expected}, {max(errors)}")

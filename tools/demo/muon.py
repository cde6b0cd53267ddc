"""Muon for the matrices of the layers (Jordan et al. 2024): momentum with its singular values made
equal by Newton-Schulz steps. Embeddings, vectors and convolutions are AdamW's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonal(g: Tensor, n_steps: int = 5) -> Tensor:
    """Roughly U V^T of each matrix of a stack [n, rows, columns]."""
    x = g.bfloat16()
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT if is_tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(n_steps):
        square = x @ x.mT
        x = _A * x + (_B * square + _C * square @ square) @ x
    return (x.mT if is_tall else x).float()


class Muon(torch.optim.Optimizer):
    """Matrices of one shape are updated together."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape].append(p)
            for same in by_shape.values():
                self._update(same, group["lr"], group["momentum"])

    def _update(self, params: list[nn.Parameter], lr: float, momentum: float) -> None:
        grads = torch.stack([p.grad for p in params])
        state = self.state[params[0]]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(grads)
        velocity = state["velocity"].lerp_(grads, 1 - momentum)
        change = orthogonal(grads.lerp(velocity, momentum))
        scale = max(1.0, params[0].shape[0] / params[0].shape[1]) ** 0.5
        torch._foreach_add_(params, list(change.unbind(0)), alpha=-lr * scale)


def optimizers(model: nn.Module, lr: float, matrix_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for large matrices of the layers, AdamW for all others."""
    matrices, others = [], []
    for name, p in model.named_parameters():
        is_matrix = p.ndim == 2 and min(p.shape) >= 32 and name != "token_embd"
        (matrices if is_matrix else others).append(p)
    fused = others[0].is_cuda
    adam = torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.97), weight_decay=0.0, fused=fused)
    chosen: list[torch.optim.Optimizer] = [Muon(matrices, matrix_lr), adam]
    for optimizer in chosen:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return chosen

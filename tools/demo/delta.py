"""The gated delta rule over chunks of tokens (Yang et al. 2024, "Gated Delta Networks").

Within a chunk everything is a product of matrices; from chunk to chunk the state follows
S' = M S + B, the only part that is computed one after the other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 64


class UnitLowerInverse(torch.autograd.Function):
    """(1 + A)^-1 of strictly lower triangular A [..., C, C]."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        if a.is_cuda:
            from tools.demo.delta_triton import unit_lower_inverse

            inverse = unit_lower_inverse(a.contiguous())
        else:
            eye = torch.eye(a.shape[-1], dtype=a.dtype).expand_as(a)
            inverse = torch.linalg.solve_triangular(a, eye, upper=False, unitriangular=True)
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (inverse,) = ctx.saved_tensors
        transposed = inverse.mT
        return -(transposed @ grads[0] @ transposed).tril(-1)


class ChunkStates(torch.autograd.Function):
    """S[0] = 0, S[n + 1] = M[n] S[n] + B[n]; all [N, G, d, d], the first axis in order of time."""

    @staticmethod
    def forward(ctx: Any, m: Tensor, b: Tensor) -> Tensor:
        states = torch.empty_like(b)
        states[0] = 0
        for n in range(len(b) - 1):
            torch.baddbmm(b[n], m[n], states[n], out=states[n + 1])
        ctx.save_for_backward(m, states)
        return states

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        m, states = ctx.saved_tensors
        grad = grads[0].contiguous()
        db = torch.zeros_like(grad)  # db[n] is the gradient of S[n + 1]
        for n in range(len(db) - 2, -1, -1):
            if n == len(db) - 2:
                db[n] = grad[n + 1]
            else:
                torch.baddbmm(grad[n + 1], m[n + 1].mT, db[n + 1], out=db[n])
        return db @ states.mT, db


def chunk_scores(k: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
    """A[i, j] = beta_i (k_i . k_j) exp(c_i - c_j) for j < i; k [G, H, C, d], c = ``decay``."""
    return (beta.unsqueeze(-1) * (k @ k.mT) * _between(decay)).tril(-1)


def _between(decay: Tensor) -> Tensor:
    """exp(c_i - c_j) for j <= i, 0 above."""
    n = decay.shape[-1]
    difference = decay.unsqueeze(-1) - decay.unsqueeze(-2)
    lower = torch.ones(n, n, dtype=torch.bool, device=decay.device).tril()
    return torch.where(lower, difference, float("-inf")).exp()


def chunk_terms(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """M, B of the states and Q, O of the outputs Q S + O, chunk by chunk; all [G, H, ., d]."""
    u = inverse @ (beta.unsqueeze(-1) * v)
    w = inverse @ ((beta * decay.exp()).unsqueeze(-1) * k)
    p = (q @ k.mT) * _between(decay)
    last = decay[..., -1:]
    k_end = ((last - decay).exp().unsqueeze(-1) * k).mT
    eye = torch.eye(q.shape[-1], dtype=q.dtype, device=q.device)
    m = last.exp().unsqueeze(-1) * eye - k_end @ w
    return m, k_end @ u, decay.exp().unsqueeze(-1) * q - p @ w, p @ u


def prefix_states(m: Tensor, b: Tensor, n_rows: int) -> Tensor:
    """The state before each chunk. m, b [n_rows * N, H, d, d] with the chunks of a row together."""
    g, h, d, _ = b.shape
    n = g // n_rows

    def by_time(x: Tensor) -> Tensor:
        return x.view(n_rows, n, h, d, d).transpose(0, 1).reshape(n, n_rows * h, d, d)

    states = ChunkStates.apply(by_time(m), by_time(b))
    return states.view(n, n_rows, h, d, d).transpose(0, 1).reshape(g, h, d, d)

"""The chunked delta rule of the demo model's training against the rule as it is written."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tools.demo import delta  # noqa: E402

N_ROWS, N_CHUNKS, N_HEADS, D = 2, 3, 2, 16


def step_by_step(q, k, v, beta, g):
    """S *= exp(g); u = beta (v - S^T k); S += k u^T; o = S^T q; all [B, H, T, ...]."""
    state = torch.zeros(*q.shape[:2], D, D, dtype=q.dtype)
    outputs = []
    for t in range(q.shape[2]):
        state = state * g[:, :, t, None, None].exp()
        k_t, v_t = k[:, :, t], v[:, :, t]
        error = v_t - (state * k_t.unsqueeze(-1)).sum(-2)
        state = state + k_t.unsqueeze(-1) * (beta[:, :, t, None] * error).unsqueeze(-2)
        outputs.append((state * q[:, :, t].unsqueeze(-1)).sum(-2))
    return torch.stack(outputs, 2)


def by_chunks(q, k, v, beta, g):
    def cut(x):
        x = x.reshape(N_ROWS, N_HEADS, N_CHUNKS, delta.CHUNK, *x.shape[3:])
        return x.transpose(1, 2).reshape(N_ROWS * N_CHUNKS, N_HEADS, *x.shape[3:])

    q, k, v, beta, g = (cut(x) for x in (q, k, v, beta, g))
    decay = g.cumsum(-1)
    inverse = delta.UnitLowerInverse.apply(delta.chunk_scores(k, beta, decay))
    m, bias, q_of_state, own = delta.chunk_terms(q, k, v, beta, decay, inverse)
    o = q_of_state @ delta.prefix_states(m, bias, N_ROWS) + own
    o = o.view(N_ROWS, N_CHUNKS, N_HEADS, delta.CHUNK, D).transpose(1, 2)
    return o.reshape(N_ROWS, N_HEADS, N_CHUNKS * delta.CHUNK, D)


def test_chunks_give_the_outputs_and_gradients_of_single_steps():
    random = torch.Generator().manual_seed(5)
    shape = N_ROWS, N_HEADS, N_CHUNKS * delta.CHUNK

    def draw(*last):
        return torch.randn(*shape, *last, generator=random, dtype=torch.float64)

    q, k, v, weight = (draw(D) for _ in range(4))
    k = k / k.norm(dim=-1, keepdim=True)
    k[:, :, 5:40] = k[:, :, 5:6]  # equal keys make the inverse's powers large
    beta, g = draw().sigmoid(), -draw().exp() * 0.1
    inputs = [x.requires_grad_() for x in (q, k, v, beta, g)]
    expected, got = step_by_step(*inputs), by_chunks(*inputs)
    assert (expected - got).abs().max() < 1e-9
    wanted = torch.autograd.grad((expected * weight).sum(), inputs)
    found = torch.autograd.grad((got * weight).sum(), inputs)
    for a, b in zip(wanted, found, strict=True):
        assert (a - b).abs().max() < 1e-8 * (1 + a.abs().max())

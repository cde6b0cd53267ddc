"""Plain NumPy twin of multi-head latent attention (DeepSeek-V2, section 2.1): float64, as written.

Keys and values are computed for every head from the latents, not absorbed into queries and outputs:
that the two are one function is what tests show.
"""

from __future__ import annotations

import numpy as np


def latent_attention(q, latents, k_pe, k_b, v_b, scale):
    """Causal attention of one sequence: [T, H, v].

    q [T, H, nope + rope] with its rope part rotated; latents [T, R] and k_pe [T, rope], normed and
    rotated; k_b [H, R, nope] (as files have it), v_b [H, v, R]."""
    q, latents, k_pe, k_b, v_b = (np.asarray(x, np.float64) for x in (q, latents, k_pe, k_b, v_b))
    n_tokens, n_head, _ = q.shape
    nope = k_b.shape[2]
    out = np.zeros((n_tokens, n_head, v_b.shape[1]))
    for h in range(n_head):
        keys = np.concatenate([latents @ k_b[h], k_pe], axis=1)
        values = latents @ v_b[h].T
        assert keys.shape[1] == nope + k_pe.shape[1] == q.shape[2]
        for t in range(n_tokens):
            scores = scale * (keys[: t + 1] @ q[t, h])
            p = np.exp(scores - scores.max())
            out[t, h] = p / p.sum() @ values[: t + 1]
    return out

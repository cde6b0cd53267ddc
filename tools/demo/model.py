"""The network in PyTorch, for training and for comparing: attribute names are GGUF tensor names."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.demo.config import DemoConfig
from tools.demo.delta import UnitLowerInverse, prefix_states
from tools.demo.parts import Parts, linear, rms_norm


def matrix(n_out: int, n_in: int, scale: float = 1.0) -> nn.Parameter:
    """Weights drawn so that outputs have the inputs' variance, times ``scale``."""
    return nn.Parameter(torch.randn(n_out, n_in) * scale / math.sqrt(n_in))


def ones(n: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(n))


@dataclass(frozen=True, slots=True)
class Rows:
    """How the tokens of a batch, one after the other, are rows; and where each one is."""

    n_rows: int
    n_tokens: int  # of each row, a multiple of CHUNK
    positions: Tensor  # [n, 1]
    rope: tuple[Tensor, Tensor, int]  # cos and sin [n, 1, n_rot / 2], n_rot

    @staticmethod
    def of(tokens: Tensor, c: DemoConfig) -> Rows:
        n_rows, n = tokens.shape
        i = torch.arange(0, c.n_rot, 2, device=tokens.device, dtype=torch.float64)
        positions = torch.arange(n, device=tokens.device).repeat(n_rows)[:, None]
        angle = positions * c.rope_base ** (-i / c.n_rot)
        cos, sin = angle.cos().float().unsqueeze(1), angle.sin().float().unsqueeze(1)
        return Rows(n_rows, n, positions, (cos, sin, c.n_rot))

    def split(self, x: Tensor) -> Tensor:
        """[n, H, d] -> [B, H, T, d]"""
        return x.view(self.n_rows, self.n_tokens, *x.shape[1:]).transpose(1, 2)

    def flat(self, x: Tensor) -> Tensor:
        """[B, H, T, d] -> [n, H d]"""
        return x.transpose(1, 2).reshape(self.n_rows * self.n_tokens, -1)


class Ffn(nn.Module):
    """The half of a block that DeltaNet and attention layers share."""

    def __init__(self, c: DemoConfig) -> None:
        super().__init__()
        self.c = c
        self.attn_norm = ones(c.n_embd)
        self.post_attention_norm = ones(c.n_embd)
        self.ffn_gate = matrix(c.n_ff, c.n_embd)
        self.ffn_up = matrix(c.n_ff, c.n_embd)
        self.ffn_down = matrix(c.n_embd, c.n_ff, 0.1)

    def ffn(self, x: Tensor, parts: Parts, dtype: torch.dtype) -> Tensor:
        return parts.ffn(
            x,
            self.post_attention_norm,
            self.ffn_gate,
            self.ffn_up,
            self.ffn_down,
            self.c.eps,
            dtype,
        )


class DeltaBlock(Ffn):
    """Gated DeltaNet, then SwiGLU."""

    def __init__(self, c: DemoConfig) -> None:
        super().__init__(c)
        self.attn_qkv = matrix(3 * c.delta_width, c.n_embd)
        self.attn_gate = matrix(c.delta_width, c.n_embd)
        self.ssm_alpha = matrix(c.n_delta_heads, c.n_embd)
        self.ssm_beta = matrix(c.n_delta_heads, c.n_embd)
        self.ssm_conv1d = nn.Parameter(torch.randn(3 * c.delta_width, c.n_taps) * 0.1)
        with torch.no_grad():
            self.ssm_conv1d[:, -1] += 1.0
        self.a_log = nn.Parameter(torch.empty(c.n_delta_heads).uniform_(1, 8).log())
        # softplus(dt_bias) from 0.001 to 0.1: memories of some ten to thousands of tokens
        dt = torch.exp(torch.empty(c.n_delta_heads).uniform_(math.log(1e-3), math.log(1e-1)))
        self.ssm_dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.ssm_norm = ones(c.delta_dim)
        self.ssm_out = matrix(c.n_embd, c.delta_width, 0.1)

    def forward(self, x: Tensor, rows: Rows, parts: Parts, dtype: torch.dtype) -> Tensor:
        """x [n, n_embd]"""
        c = self.c
        weights = [self.attn_qkv, self.attn_gate, self.ssm_alpha, self.ssm_beta]
        qkv, z, alpha, beta = parts.norm_linears(x, self.attn_norm, weights, c.eps, dtype)
        qkv = parts.causal_conv(qkv, self.ssm_conv1d, rows.positions)
        *heads, scores = parts.delta_heads(
            qkv, alpha, beta, -self.a_log.exp(), self.ssm_dt_bias, c.delta_dim, c.eps
        )
        m, bias, q, own = parts.chunk_terms(*heads, UnitLowerInverse.apply(scores))
        terms = q, prefix_states(m, bias, rows.n_rows), own
        x = parts.delta_output(x, terms, z, self.ssm_norm, self.ssm_out, c.eps, dtype)
        return self.ffn(x, parts, dtype)


class AttentionBlock(Ffn):
    """Softmax attention with a gate on its output, then SwiGLU."""

    def __init__(self, c: DemoConfig) -> None:
        super().__init__(c)
        self.attn_q = matrix(2 * c.n_head * c.head_dim, c.n_embd)
        self.attn_k = matrix(c.n_head_kv * c.head_dim, c.n_embd)
        self.attn_v = matrix(c.n_head_kv * c.head_dim, c.n_embd)
        self.attn_q_norm = ones(c.head_dim)
        self.attn_k_norm = ones(c.head_dim)
        self.attn_output = matrix(c.n_embd, c.n_head * c.head_dim, 0.1)

    def forward(self, x: Tensor, rows: Rows, parts: Parts, dtype: torch.dtype) -> Tensor:
        q, k, v, gate = self.heads(x, rows, parts, dtype)
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.finish(x, rows.flat(o), gate, parts, dtype)

    def heads(
        self, x: Tensor, rows: Rows, parts: Parts, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """q, k, v [B, H, T, d] and the gate [n, H d]."""
        c = self.c
        weights = [self.attn_q, self.attn_k, self.attn_v]
        q_gate, k, v = parts.norm_linears(x, self.attn_norm, weights, c.eps, dtype)
        norms = self.attn_q_norm, self.attn_k_norm
        q, k, v, gate = parts.attention_heads(q_gate, k, v, norms, rows.rope, c.head_dim, c.eps)
        return rows.split(q), rows.split(k), rows.split(v), gate

    def finish(
        self, x: Tensor, o: Tensor, gate: Tensor, parts: Parts, dtype: torch.dtype
    ) -> Tensor:
        return self.ffn(parts.attention_output(x, o, gate, self.attn_output, dtype), parts, dtype)


class Predictor(AttentionBlock):
    """The block for multi-token prediction. Pass 0 sees the trunk's hidden states; pass s feeds
    pass s - 1's own, as drafting does, and attends to the keys that drafting has by then."""

    def __init__(self, c: DemoConfig) -> None:
        super().__init__(c)
        self.nextn_enorm = ones(c.n_embd)
        self.nextn_hnorm = ones(c.n_embd)
        self.nextn_eh_proj = matrix(c.n_embd, 2 * c.n_embd)
        self.nextn_shared_head_norm = ones(c.n_embd)

    def passes(
        self, embedded: Tensor, hidden: Tensor, rows: Rows, n_passes: int,
        parts: Parts, dtype: torch.dtype,
    ) -> list[Tensor]:  # fmt: skip
        """Hidden states [n, n_embd] of each pass; that of x[p] predicts x[p + 1]."""
        c, outputs = self.c, []
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for _ in range(n_passes):
            before = F.pad(hidden, (0, 0, 1, 0))[:-1] * (rows.positions > 0)  # h[p - 1]
            e = rms_norm(embedded, self.nextn_enorm, c.eps)
            h = rms_norm(before, self.nextn_hnorm, c.eps)
            x = linear(torch.cat([e, h], -1), self.nextn_eh_proj, dtype).float()
            q, k, v, gate = self.heads(x, rows, parts, dtype)
            keys, values = [*keys, k], [*values, v]
            o = self._attend(q, keys, values)
            x = self.finish(x, rows.flat(o), gate, parts, dtype)
            hidden = rms_norm(x, self.nextn_shared_head_norm, c.eps)
            outputs.append(hidden)
        return outputs

    def _attend(self, q: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
        s = len(keys) - 1
        if s == 0:
            return F.scaled_dot_product_attention(q, keys[0], values[0], is_causal=True)
        t = q.shape[2]
        eye = torch.ones(t, t, dtype=torch.bool, device=q.device)
        # Keys of pass 0 up to p - s, then one of each later pass: r at p - s + r.
        seen = [eye.tril(-s), *(eye.tril(r - s).triu(r - s) for r in range(1, s + 1))]
        mask = torch.cat(seen, -1)
        return F.scaled_dot_product_attention(q, torch.cat(keys, 2), torch.cat(values, 2), mask)


class DemoModel(nn.Module):
    """Trunk and predictor; the embedding is also the output matrix."""

    def __init__(self, c: DemoConfig, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.c, self.dtype, self.parts = c, dtype, Parts()
        self.token_embd = nn.Parameter(torch.randn(c.n_vocab, c.n_embd) * 0.05)
        self.blk = nn.ModuleList(
            DeltaBlock(c) if c.is_recurrent(i) else AttentionBlock(c) for i in range(c.n_layers)
        )
        self.output_norm = ones(c.n_embd)
        self.predictor = Predictor(c)

    def trunk(self, tokens: Tensor) -> Tensor:
        """Hidden states after the last norm, [B, T, n_embd]; T a multiple of CHUNK."""
        x = F.embedding(tokens.reshape(-1), self.token_embd)
        rows = Rows.of(tokens, self.c)
        for block in self.blk:
            x = block(x, rows, self.parts, self.dtype)
        return rms_norm(x, self.output_norm, self.c.eps).view(*tokens.shape, -1)

    def predictions(self, tokens: Tensor, hidden: Tensor, n_passes: int) -> list[Tensor]:
        """The predictor's hidden states [B, T, n_embd], pass by pass."""
        embedded = F.embedding(tokens.reshape(-1), self.token_embd)
        rows, flat = Rows.of(tokens, self.c), hidden.view(-1, hidden.shape[-1])
        passes = self.predictor.passes(embedded, flat, rows, n_passes, self.parts, self.dtype)
        return [h.view(hidden.shape) for h in passes]

    def logits(self, hidden: Tensor) -> Tensor:
        return linear(hidden, self.token_embd, self.dtype).float()

"""The shape of the demo model, in the words of its GGUF keys."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """A qwen35 model with as many v heads as k heads, so that no head needs reordering.

    ``n_layers`` counts the trunk: every ``attention_interval``-th layer has softmax attention, the
    others a Gated DeltaNet. One further block predicts the token after next."""

    n_vocab: int = 3072
    n_embd: int = 256
    n_layers: int = 12
    n_ff: int = 768
    attention_interval: int = 4
    n_head: int = 4
    n_head_kv: int = 2
    head_dim: int = 64
    n_rot: int = 32
    n_delta_heads: int = 4
    delta_dim: int = 64
    n_taps: int = 4
    rope_base: float = 10_000.0
    eps: float = 1e-6
    n_ctx: int = 2048

    @property
    def delta_width(self) -> int:
        """Columns of q, of k and of v in a DeltaNet layer."""
        return self.n_delta_heads * self.delta_dim

    @property
    def rope_sections(self) -> list[int]:
        """How many frequencies are the time's, the height's and the width's; all are claimed."""
        n = self.n_rot // 2
        height, width = (n + 1) // 3, n // 3
        return [n - height - width, height, width, 0]

    def is_recurrent(self, layer: int) -> bool:
        """Whether a block is a DeltaNet; the last one, for prediction, is not."""
        return layer < self.n_layers and (layer + 1) % self.attention_interval != 0


TINY = DemoConfig(
    n_vocab=384, n_embd=64, n_layers=4, n_ff=96, n_head=2, n_head_kv=1, head_dim=32, n_rot=16,
    n_delta_heads=2, delta_dim=32,
)  # fmt: skip

"""Small files with heads as wide as published ones, and wider: golden models have narrow heads."""

from __future__ import annotations

from pathlib import Path

from tests.bench.synth import families
from tests.bench.synth.blocks import Experts, Heads
from tests.bench.synth.gguf_file import write
from tests.bench.synth.latent import Latent, deepseek2
from tests.bench.synth.rwkv import Ranks, rwkv6, rwkv7


def wide_file(kind: str, d: int, path: Path) -> Path:
    """A model of one layer with heads of ``d``."""
    plan = {
        "qwen3": lambda: families.dense("qwen3", 256, 1, 256, Heads(2, 1, d), 512),
        # Of a latent: 512 and 64 more are what is published.
        "deepseek2": lambda: deepseek2(
            256, 1, 256, Latent(3, 0, d, 64, 64, 48), Experts(4, 2, 32), 512
        ),
        "rwkv6": lambda: rwkv6(2 * d, 1, 4 * d, d, 32, 64, 512),
        "rwkv7": lambda: rwkv7(2 * d, 1, 4 * d, d, Ranks(64, 64, 32, 128), 512),
    }[kind]()
    write(plan, "wide", path, "F16")
    return path

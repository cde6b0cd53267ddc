"""One scene of the fuzz: a model, the size of everything, and how its crowd behaves; all of it a
function of a seed, so that a line reproduces it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from slotmux.kernels.ops.attention.cells import CELL_TYPES
from slotmux.runtime.engine.config import MTP, NGRAM, EngineConfig, SpecConfig
from slotmux.runtime.model import ModelConfig
from tests.architectures import ARCHITECTURES, Architecture
from tests.bench.synth import families
from tests.bench.synth.blocks import Heads
from tests.bench.synth.gguf_file import write
from tests.runtime.engine.tool_grammars import N_VOCAB
from tests.runtime.models.isolation import GOLDEN, golden

# Golden models have narrow heads; kernels take other ways for wide ones, with few rows.
WIDE = (64, 96, 128, 256)


@dataclass(frozen=True, slots=True)
class Scene:
    """What a crowd meets."""

    seed: int
    name: str
    path: Path
    prompts: list[list[int]]
    n_vocab: int
    n_ctx: int  # of one sequence
    model: dict[str, Any] = field(default_factory=dict)  # of ModelConfig
    engine: dict[str, Any] = field(default_factory=dict)  # of EngineConfig

    def model_config(self, cache: Path) -> ModelConfig:
        """Of the crowd's model."""
        return ModelConfig(kernel_cache=cache, **self.model)

    def lonely_config(self, cache: Path) -> ModelConfig:
        """Of one with room for one sequence, that drafts nothing."""
        own = {**self.model, "n_slots": 1, "n_ctx": self.n_ctx + 16, "n_checkpoints": 0,
               "max_drafts": 0, "use_mtp": False, "n_outputs": 0, "n_ubatch": 64,
               "n_cache_blocks": 0, "is_elastic": False}  # fmt: skip
        return ModelConfig(kernel_cache=cache, **own)

    def engine_config(self) -> EngineConfig:
        """Of the crowd's engine."""
        return EngineConfig(
            self.model["n_slots"], self.n_ctx, queue_timeout_s=0.0, poison_freed=True, **self.engine
        )

    def __str__(self) -> str:
        sizes = ", ".join(f"{k}={v}" for k, v in (self.model | self.engine).items())
        return f"seed {self.seed}: {self.name}, n_ctx={self.n_ctx}, {sizes}"


def scene(seed: int, folder: Path, architecture: Architecture | None = None) -> Scene:
    """The scene of a seed; files that it needs are written to ``folder``. ``architecture``: of the
    golden model, if it is not the seed's to choose."""
    rng = Random(seed)
    if architecture is None and rng.random() < 0.25:
        name, path, prompts, n_vocab, head, architecture = _wide(rng, folder)
    else:
        architecture = architecture or rng.choice(ARCHITECTURES)
        reference = golden(architecture.name)
        name, path, prompts = architecture.name, reference.path, reference.prompts
        n_vocab, head = min(reference.n_vocab, N_VOCAB), 0
    n_slots = rng.randint(1, 6)
    n_ctx = rng.choice((64, 80, 112, 160, 256))
    n_blocks = -(-n_ctx // 16)
    # A pool of exactly one context, a little more, and enough for all.
    pool = rng.choice((n_blocks, n_blocks, n_blocks + 1, 2 * n_blocks, n_slots * n_blocks))
    spec = _speculation(rng, architecture)
    cache_bytes = rng.choice((None, 0, 100_000, 400_000))
    cells = rng.choices(CELL_TYPES, k=2) if head or architecture.name in _BY_32 else ["f16", "f16"]
    return Scene(
        seed, name, path, prompts, n_vocab, n_ctx,
        model={
            "n_threads": rng.choice((1, 1, 2)), "n_ctx": 16 * pool, "n_slots": n_slots,
            "n_ubatch": rng.choice((3, 7, 16, 48, 100)), "cache_type_k": cells[0],
            "cache_type_v": cells[1], "n_checkpoints": rng.choice((0, 1, 4, 8)),
            "max_drafts": spec.n_max, "use_mtp": MTP in spec.types,
            # Places beyond what the bytes allow: the budget alone bounds them.
            "n_cache_blocks": 0 if cache_bytes is None else 24,
            "is_elastic": cache_bytes is not None,
        },
        engine={
            "n_prompt_beside": rng.choice((0, 5, 16, 128)),
            "checkpoint_spacing": rng.choice((1, 16, 32)),
            "max_prompt_checkpoints": rng.choice((0, 1, 4)), "spec": spec, "max_queue": 1000,
            "prefix_cache_bytes": cache_bytes,
        },
    )  # fmt: skip


# Golden models whose heads q8_0 cells can hold.
_BY_32 = frozenset(
    name for name in ("llama-rope3", "q-llama", "qwen4exp") if (GOLDEN / name).is_dir()
)


def _speculation(rng: Random, architecture: Architecture) -> SpecConfig:
    types = [()] * 2 + [(NGRAM,)] * 2
    if architecture.has_mtp:
        types += [(MTP,), (MTP, NGRAM)]
    chosen = rng.choice(types)
    return SpecConfig(chosen, rng.randint(1, 5)) if chosen else SpecConfig()


def _wide(rng: Random, folder: Path) -> tuple[str, Path, list[list[int]], int, int, Architecture]:
    """A model of two layers with wide heads, in groups."""
    head = rng.choice(WIDE)
    path = folder / f"wide{head}.gguf"
    if not path.is_file():
        plan = families.dense("qwen3", 128, 2, 128, Heads(4, 2, head), 320)
        write(plan, "wide", path, "F16", seed=head)
    text = Random(head)
    prompts = [[text.randrange(3, N_VOCAB) for _ in range(n)] for n in (7, 37, 150)]
    return f"wide heads of {head}", path, prompts, N_VOCAB, head, Architecture("wide")

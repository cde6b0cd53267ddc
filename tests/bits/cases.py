"""What the table of bits holds: logits of every golden file, and products of every weight type."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slotmux.kernels.formats import FORMATS
from slotmux.kernels.team import Team
from slotmux.runtime.driver import Driver
from tests.bits.stream import Stream
from tests.kernels.dense.panels import pack, product, random_file
from tests.runtime.models.isolation import loaded

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
TABLE = GOLDEN / "bits.json"
# Files that are computed with float32 cells besides float16 ones, and those whose heads are a
# multiple of 32 with q8_0: heads of many sizes, windows, partial rotation, states, experts.
F32_CELLS = tuple(
    f"{name}/model" for name in ("llama", "gemma3", "phi2", "falcon-h1", "granitehybrid-moe")
)
ALL_CELLS = (
    "llama-rope3/model", "qwen35/model", "qwen35moe/model", "qwen3next/model", "qwen4exp/model",
    "q-llama/model-Q4_K_M", "q-jamba/model-Q4_K_M", "q-granitehybrid/model-Q4_0",
    "q-qwen35/model-Q4_K_M",
)  # fmt: skip
# More rows than three ops instead of one take (kernels/ops/dense/gated.py), then single ones.
N_PROMPT, N_SINGLE = 100, 4
ROWS, N_INPUTS, N_OUTPUTS = (1, 2, 4, 8, 45), 512, 200


@dataclass(frozen=True, slots=True)
class Case:
    """A line of the table: a golden file with a type of cells, or a weight type (no file)."""

    name: str
    file: str = ""
    cells: str = ""

    def bits(self, isa: str, cache: Path, team_of: Callable[[str], Team]) -> str:
        """The hash of everything that is computed."""
        return _logits(self, isa, cache) if self.file else _products(self.name, team_of(isa))


def cases() -> Iterator[Case]:
    """All lines, by golden folder, then by weight type."""
    for path in sorted(GOLDEN.glob("*/model*.gguf")):
        name = str(path.relative_to(GOLDEN).with_suffix(""))
        kinds = ["f16"]
        kinds += ["f32"] if name in F32_CELLS or name in ALL_CELLS else []
        kinds += ["q8_0", "i16"] if name in ALL_CELLS else []
        yield from (Case(f"{name} {cells}", f"{name}.gguf", cells) for cells in kinds)
    for name in FORMATS:
        yield Case(name)


def version() -> str:
    """What kernels/bits_version.py must say."""
    return hashlib.sha256(TABLE.read_bytes()).hexdigest()[:16]


def table() -> dict[str, str]:
    """The table as the repository has it."""
    found: dict[str, str] = json.loads(TABLE.read_text())
    return found


def _logits(case: Case, isa: str, cache: Path) -> str:
    """Of a prompt in one ubatch, then of tokens one by one."""
    sizes = {"n_ctx": 256, "n_slots": 1, "n_ubatch": N_PROMPT, "n_outputs": N_PROMPT}
    cells = {"cache_type_k": case.cells, "cache_type_v": case.cells}
    digest = hashlib.sha256()
    with loaded(GOLDEN / case.file, cache, isa=isa, **sizes, **cells) as model:
        n = N_PROMPT + N_SINGLE
        tokens = Stream("tokens").integers(0, model.n_vocab, n).tolist()
        driver = Driver(model)
        driver.open(0)
        runs = [tokens[:N_PROMPT], *([token] for token in tokens[N_PROMPT:])]
        for run in runs:
            logits = driver.feed([(0, run)])
            assert logits.shape == (len(run), model.n_vocab)
            assert np.isfinite(logits).all()
            digest.update(logits.astype("<f4").tobytes())
        driver.close(0)
    return digest.hexdigest()


def _products(name: str, team: Team) -> str:
    """Of one row, a few, a tile, and so many that panels are computed in pairs."""
    rows = random_file(name, N_OUTPUTS, N_INPUTS, Stream(name))
    panels = pack(team, name, rows, N_INPUTS)
    x = Stream("x").normal(size=(max(ROWS), N_INPUTS)).astype(np.float32)
    x[:, 5::32] *= 20  # blocks differ in scale
    digest = hashlib.sha256()
    for n in ROWS:
        out = product(team, name, panels, x[:n], N_OUTPUTS)
        assert np.isfinite(out).all()
        digest.update(out.astype("<f4").tobytes())
    return digest.hexdigest()

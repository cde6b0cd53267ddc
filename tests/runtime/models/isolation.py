"""A model's answers do not depend on company: the checks that every architecture must pass.

All comparisons are bit for bit. Memory that holds nothing is filled with NaN throughout.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.driver import Driver, packed, pieces, run_pattern, staggered, whole
from slotmux.runtime.model import Model, ModelConfig, load_model

F32 = NDArray[np.float32]
PIECES = (1, 2, 7, 64)
N_SLOTS = 8
GOLDEN = Path(__file__).resolve().parents[2] / "golden"


@contextmanager
def loaded(path: Path, kernel_cache: Path, n_threads: int = 2, **config: Any) -> Iterator[Model]:
    """A model with room for 8 sequences, every block and row full of NaN, float32 KV cells."""
    defaults: dict[str, Any] = {
        "n_ctx": 2048, "n_slots": N_SLOTS, "n_ubatch": 320, "n_outputs": 320,
        "cache_type_k": "f32", "cache_type_v": "f32",
    }  # fmt: skip
    resolved = ModelConfig(n_threads=n_threads, kernel_cache=kernel_cache, **(defaults | config))
    model = load_model(path, resolved)
    try:
        poison(model)
        yield model
    finally:
        model.close()


def poison(model: Model) -> None:
    """Fill every block and row with NaN: what nobody wrote must not be read."""
    for block in range(model.kv.n_blocks):
        model.kv.fill_nan(block)
    for row in range(model.rows.n_rows):
        model.rows.fill_nan(row)


@dataclass(frozen=True, slots=True)
class Golden:
    """Prompts of a golden folder with logits from outside, and how near one must come."""

    name: str
    path: Path
    arrays: dict[str, NDArray[Any]]
    tolerance: float  # on a logit
    entry: dict[str, Any] = field(default_factory=dict)  # of the manifest

    @property
    def prompts(self) -> list[list[int]]:
        """Token ids of the three prompts."""
        return [self.arrays[f"ids{i}"].tolist() for i in range(3)]

    @property
    def n_vocab(self) -> int:
        """Tokens that have a logit."""
        n: int = next(self.arrays[key].shape[1] for key in ("hf0", "lcpp0") if key in self.arrays)
        return n


def golden(name: str, kind: str = "") -> Golden:
    """A folder of tests/golden; ``kind`` names a quantised file of it (F16, Q4_0, ...)."""
    entry = next(e for e in json.loads((GOLDEN / "manifest.json").read_text()) if e["name"] == name)
    suffix = f"-{kind}" if kind else ""
    with np.load(GOLDEN / name / f"reference{suffix}.npz") as file:
        arrays = dict(file)
    tolerance = entry["quant"][kind]["tol_abs_deq"] if kind else entry["tol_abs"]
    return Golden(name, GOLDEN / name / f"model{suffix}.gguf", arrays, tolerance, entry)


def assert_golden(model: Model, reference: Golden, key: str = "hf", tolerance: float = 0.0) -> None:
    """Logits within the reference's tolerance; the same argmax wherever its margin allows."""
    tolerance = tolerance or reference.tolerance
    for i, prompt in enumerate(reference.prompts):
        rows = reference.arrays[f"{'lrows' if key == 'lcpp' else 'rows'}{i}"]
        want = reference.arrays[f"{key}{i}"]
        got = run_pattern(model, [prompt], whole([len(prompt)]), poison=True)[0][rows]
        error = float(np.abs(got - want).max())
        assert error <= tolerance, f"{reference.name}: prompt {i} is off by {error}"
        top = np.sort(want, axis=1)
        clear = top[:, -1] - top[:, -2] > 2 * tolerance
        assert clear.any()
        assert np.array_equal(got.argmax(1)[clear], want.argmax(1)[clear])


def assert_same(name: str, got: Sequence[F32], want: Sequence[F32]) -> None:
    """Equal bit for bit, with no NaN."""
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        assert a.shape == b.shape, f"{name}: prompt {i} has {a.shape}, not {b.shape}"
        assert np.isfinite(b).all(), f"{name}: prompt {i} has no finite logits"
        differs = np.flatnonzero((a.view(np.int32) != b.view(np.int32)).any(axis=1))
        assert differs.size == 0, f"{name}: prompt {i} differs at tokens {differs[:8].tolist()}"


def strangers(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Eight token lists of different lengths; the first are the prompts themselves."""
    crowd = [list(prompt) for prompt in prompts]
    longest = max(crowd, key=len)
    for i in range(len(crowd), N_SLOTS):
        start, n = 3 * i, (1, 16, 5, 33, 2, 50)[i % 6]
        crowd.append(longest[start : start + n][::-1] or [0])
    return crowd


def assert_isolated(
    model_path: Path, kernel_cache: Path, prompts: Sequence[Sequence[int]], **config: Any
) -> None:
    """Whole = in pieces = packed with 1 to 7 strangers = after others = with any thread count.

    Cells are what users have, if nothing else is said.
    """
    config = {"cache_type_k": "f16", "cache_type_v": "f16"} | config
    crowd = strangers(prompts)
    lengths = [len(prompt) for prompt in crowd]
    with loaded(model_path, kernel_cache, **config) as model:
        alone = run_pattern(model, crowd, whole(lengths), poison=True)
        for k in PIECES:
            steps = pieces(lengths[:3], k)
            got = run_pattern(model, crowd[:3], steps, slots=(5, 0, 2), poison=True)
            assert_same(f"pieces of {k}", got, alone[:3])
        _assert_crowds(model, crowd, alone)
        assert_slots_reusable(model, crowd, alone)
    for n_threads in (1, 3):
        with loaded(model_path, kernel_cache, n_threads, **config) as model:
            got = run_pattern(model, crowd, packed(lengths, (150, 7, 40, 1, 3, 16, 2, 64)))
            assert_same(f"{n_threads} threads", got, alone)


def _assert_crowds(model: Model, crowd: list[list[int]], alone: list[F32]) -> None:
    """Each of the first three prompts among 1 to 7 others, with unequal shares of the ubatch."""
    lengths = [len(prompt) for prompt in crowd]
    for n in range(2, N_SLOTS + 1):
        # Rotated, so that every prompt is once first, in the middle and last.
        order = [(i + n // 2) % n for i in range(n)]
        sizes = [(16, 7, 1, 1, 64, 2, 5, 33)[(i + n) % 8] for i in range(n)]
        got = run_pattern(
            model,
            [crowd[i] for i in order],
            packed([lengths[i] for i in order], sizes),
            slots=[(3 * i + n) % N_SLOTS for i in range(n)],
            poison=True,
        )
        assert_same(f"packed with {n - 1}", got, [alone[i] for i in order])
    got = run_pattern(model, crowd, staggered(lengths, 9, 2), poison=True)
    assert_same("strangers who come and go", got, alone)


def assert_slots_reusable(
    model: Model, crowd: list[list[int]], alone: list[F32], seed: int = 0, n_steps: int = 60
) -> None:
    """Slots start, stop, are cancelled midway and reused in random order."""
    rng = np.random.default_rng(seed)
    driver = Driver(model, poison=True)
    running: dict[int, tuple[int, int]] = {}  # slot -> (prompt, tokens done)
    for _ in range(n_steps):
        for slot in range(N_SLOTS):
            if slot not in running and rng.random() < 0.4:
                driver.open(slot)
                running[slot] = (int(rng.integers(len(crowd))), 0)
        runs, expected = [], []
        for slot in rng.permutation(list(running)):
            prompt, done = running[slot]
            n = min(int(rng.choice([1, 1, 2, 7, 30])), len(crowd[prompt]) - done)
            runs.append((int(slot), crowd[prompt][done : done + n]))
            expected.append(alone[prompt][done : done + n])
            running[slot] = (prompt, done + n)
        if runs:
            assert_same(f"slots reused {runs}", [driver.feed(runs)], [np.concatenate(expected)])
        for slot, (prompt, done) in list(running.items()):
            if done == len(crowd[prompt]) or rng.random() < 0.1:
                driver.close(slot)
                del running[slot]
    for slot in running:
        driver.close(slot)

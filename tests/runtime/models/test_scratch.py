"""Every op stays within the memory it declares for its shape; what needs too much is refused.

Each op of a model runs by itself, with a pattern behind its declared part of every thread's
scratch. A forward made of such runs must also give the bits of the whole program.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slotmux.kernels.compiler import KernelCache
from slotmux.kernels.cpu import detect_cpu
from slotmux.runtime import lowered as lowered_module
from slotmux.runtime.driver import Driver, pieces, run_pattern, whole
from slotmux.runtime.gguf import ModelFileError, open_gguf
from slotmux.runtime.lowered import Lowered, ModelConfig
from slotmux.runtime.model import Model
from tests.architectures import ALL
from tests.runtime.models.isolation import assert_same, golden, loaded, poison
from tests.runtime.models.wide import wide_file

GUARD = 1 << 16
PATTERN = 0xA5
MAX_DRAFTS = 3


@contextmanager
def guarded(
    path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, cells: str
) -> Iterator[Model]:
    """A model whose forward runs op by op and checks what each one touched."""
    declared = Lowered.scratch_bytes.fget
    monkeypatch.setattr(Lowered, "scratch_bytes", property(lambda self: declared(self) + GUARD))
    config = ModelConfig(
        n_threads=2, n_ctx=1024, n_slots=4, n_ubatch=200, n_outputs=200, max_drafts=MAX_DRAFTS,
        cache_type_k=cells, cache_type_v=cells, kernel_cache=cache,
    )  # fmt: skip
    kernels = KernelCache(detect_cpu(), cache)
    lowered = Lowered(open_gguf(path), config, kernels)
    model = Model(lowered, kernels, 0, lambda *_: None)
    scratch = model.team._scratch.reshape(2, -1)
    ops = [(op, lowered.builder.program(model.team, [op])) for op in lowered.builder.ops]

    def forward() -> None:
        ub = model.ubatch
        model._step[:4] = ub.n_tokens, ub.n_seqs, ub.n_outputs, ub.n_samples
        for op, program in ops:
            n_bytes = op.scratch_bytes(kernels.cpu.isa)
            behind = scratch[:, n_bytes : n_bytes + GUARD]
            behind[:] = PATTERN
            model.team.run(program)
            assert (behind == PATTERN).all(), f"{op.kernel} uses more than {n_bytes} bytes"

    monkeypatch.setattr(model, "forward", forward)
    try:
        poison(model)
        yield model
    finally:
        model.close()


def steps_of(model: Any, prompts: list[list[int]]) -> list[np.ndarray]:
    """Logits of many rows, of few, of several sequences, and of drafts right and wrong."""
    first, second = prompts
    rows = run_pattern(model, [first], whole([len(first)]))
    rows += run_pattern(model, [first[:20]], pieces([20], 7))
    driver = Driver(model, poison=True)
    for slot in (0, 2):
        driver.open(slot)
    rows.append(driver.feed([(0, second), (2, first[:3])]))
    for _ in range(2):
        wrong = [(t + 1) % 50 for t in first[:MAX_DRAFTS]]
        runs = [(0, [second[0], *second[1 : 1 + MAX_DRAFTS]]), (2, [first[3], *wrong])]
        rows.append(driver.feed(runs, drafts=[(MAX_DRAFTS, MAX_DRAFTS - 1), (MAX_DRAFTS, 0)]))
    return rows


def assert_within(
    path: Path, cache: Path, prompts: Any, monkeypatch: pytest.MonkeyPatch, cells: str = "f16"
) -> None:
    """What ops touch is what they declare; the bits are the program's."""
    with guarded(path, cache, monkeypatch, cells) as model:
        got = steps_of(model, prompts)
    monkeypatch.undo()
    types = {"cache_type_k": cells, "cache_type_v": cells}
    with loaded(path, cache, max_drafts=MAX_DRAFTS, **types) as model:
        assert_same(path.parent.name, got, steps_of(model, prompts))


@pytest.mark.parametrize("name", ALL)
def test_every_op_stays_within_what_it_declares(
    name: str, kernel_cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = golden(name)
    prompts = [reference.prompts[2][:150], reference.prompts[1]]
    assert_within(reference.path, kernel_cache_dir, prompts, monkeypatch)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("q-llama", "Q4_0"), ("q-llama", "Q2_K"), ("q-llama", "Q4_K_M"), ("q-llama", "IQ4_XS"),
     ("q-qwen35", "Q6_K"), ("q-jamba", "Q4_K_M"), ("llama", "BF16")],
)  # fmt: skip
def test_with_weights_that_are_unpacked_and_last_tiles_that_are_compact(
    name: str, kind: str, kernel_cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = golden(name, kind)
    prompts = [reference.prompts[2][:150], reference.prompts[1]]
    assert_within(reference.path, kernel_cache_dir, prompts, monkeypatch)


@pytest.mark.parametrize(
    ("kind", "d"), [("qwen3", 640), ("qwen3", 1024), ("rwkv6", 512), ("rwkv7", 512)]
)
def test_heads_wider_than_any_published(
    kind: str, d: int, kernel_cache_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A layout of fixed places, made for heads of 512 and states of 1 MiB, is overrun by these."""
    path = wide_file(kind, d, tmp_path / "wide.gguf")
    ids = np.random.default_rng(0).integers(3, 500, 140).tolist()
    assert_within(path, kernel_cache_dir, [ids[:100], ids[100:]], monkeypatch)
    with loaded(path, kernel_cache_dir, n_slots=1) as model:
        alone = run_pattern(model, [ids], whole([140]))
        assert_same("token by token", run_pattern(model, [ids], pieces([140], 1)), alone)


@pytest.mark.parametrize("cells", ["f32", "q8_0", "i16"])
@pytest.mark.parametrize("d", [64, 256])
def test_other_cells(
    d: int, cells: str, kernel_cache_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ids = np.random.default_rng(1).integers(3, 500, 140).tolist()
    path = wide_file("qwen3", d, tmp_path / "wide.gguf")
    assert_within(path, kernel_cache_dir, [ids[:100], ids[100:]], monkeypatch, cells)


def test_a_shape_that_needs_more_than_there_is_is_refused(
    monkeypatch: pytest.MonkeyPatch, kernel_cache_dir: Path
) -> None:
    monkeypatch.setattr(lowered_module, "MAX_SCRATCH_BYTES", 4096)
    reference = golden("llama")
    with pytest.raises(ModelFileError, match=r"model\.gguf.*bytes for each thread"):
        Lowered(open_gguf(reference.path), ModelConfig(n_ctx=64), KernelCache(detect_cpu(), None))

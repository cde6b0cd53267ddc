"""Every encoder against vectors from outside, and against itself in any company, to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from slotmux.runtime.encoder import Encoder, Text
from slotmux.runtime.models.architectures import FAMILIES
from tests.encoders import DECODERS, ENCODERS, F32, GOLDEN, TWINS, crowd, encoder, golden_texts

# llama.cpp looks its GELU up in a half-precision table.
GELU_TABLE = 1e-2


@pytest.mark.parametrize("name", ENCODERS)
def test_vectors_from_outside(name: str, kernel_cache_dir: Path) -> None:
    golden = golden_texts(name)
    with encoder(golden.path, kernel_cache_dir) as model:
        for text, hf, lcpp in zip(golden.texts, golden.hf, golden.lcpp, strict=True):
            vector = model.encode([text])[0]
            assert np.abs(vector - hf).max() <= golden.entry["tolerance"]
            assert np.abs(vector - lcpp).max() <= GELU_TABLE * golden.entry["deviation"]


def in_steps(model: Encoder, texts: list[Text], order: list[int], n_most: int) -> dict[int, bytes]:
    """Vectors by place in ``texts``, packed in this order as closely as ``n_most`` tokens allow."""
    found: dict[int, bytes] = {}
    step: list[int] = []
    for i in [*order, -1]:
        n = sum(len(texts[j].tokens) for j in step)
        if step and (i < 0 or n + len(texts[i].tokens) > n_most):
            vectors = model.encode([texts[j] for j in step])
            found |= {j: bits(v) for j, v in zip(step, vectors, strict=True)}
            step = []
        step.append(i)
    return found


def bits(vector: F32) -> bytes:
    assert np.isfinite(vector).all()
    return vector.tobytes()


@pytest.mark.parametrize("name", ENCODERS)
def test_alone_or_in_company(name: str, kernel_cache_dir: Path) -> None:
    golden = golden_texts(name)
    texts = crowd(golden.texts)
    alone: dict[int, bytes] = {}
    for n_threads in (2, 1, 3):
        with encoder(golden.path, kernel_cache_dir, n_threads) as model:
            alone = alone or {i: bits(model.encode([t])[0]) for i, t in enumerate(texts)}
            for seed, n_most in ((0, 512), (1, 200), (2, 512)):
                order = np.random.default_rng(seed).permutation(len(texts)).tolist()
                assert in_steps(model, texts, order, n_most) == alone
                model.poison()


def test_no_golden_model_and_no_family_is_left_out() -> None:
    entries = json.loads((GOLDEN / "manifest.json").read_text())
    assert {*ENCODERS, *DECODERS} == {entry["name"] for entry in entries}
    encoders = {arch for arch, module in FAMILIES.items() if module.startswith("encoders.")}
    # What has no golden model of its own is held against tests/reference/encoders.py.
    assert encoders - {entry["arch"] for entry in entries} == TWINS


def test_a_step_takes_what_it_has_room_for(kernel_cache_dir: Path) -> None:
    golden = golden_texts("bert")
    with encoder(golden.path, kernel_cache_dir) as model:
        too_many = Text(np.tile(golden.texts[2].tokens, 4))
        for texts in ([], [Text(np.zeros(0, np.int32))], [too_many]):
            with pytest.raises(ValueError, match="no step"):
                model.encode(texts)

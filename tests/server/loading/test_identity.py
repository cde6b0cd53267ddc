"""What is kept under a model's name is gone on from by nothing that would compute otherwise."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.model import load_model
from slotmux.server.loading import identity
from slotmux.server.loading.plan import make_plan
from slotmux.server.settings import load_settings
from tests.kernels.conftest import usable_isas


@pytest.fixture
def name_of(tiny_model_path: Callable[..., Path], kernel_cache_dir: Path, tmp_path: Path) -> Any:
    """The identity of a golden model, or of a file, as a server with such flags has it."""

    def name(model: str | Path = "llama-rope3", **flags: Any) -> str:
        path = tiny_model_path(model) if isinstance(model, str) else model
        file = open_gguf(path)
        flags = {"ctx_size": 64, "parallel": 2, "threads": 1} | flags
        plan = make_plan(load_settings(cache_dir=kernel_cache_dir.parent, **flags), file)
        loaded = load_model(path, replace(plan.model, kernel_cache=kernel_cache_dir))
        try:
            return identity.model_identity(file, plan.model, loaded, tmp_path / "contents")
        finally:
            loaded.close()

    return name


def test_what_changes_no_bits_changes_no_name(name_of: Any) -> None:
    name = name_of()
    assert len(name) == 64
    assert name_of(threads=2, parallel=5, ctx_size=128, ubatch_size=7) == name
    for isa in usable_isas():
        assert name_of(isa=isa) == name, "the paths compute the same bits"


@pytest.mark.parametrize(
    "flags", [{"cache_type_k": "f32"}, {"cache_type_v": "q8_0"}, {"cache_type_k": "i16"}]
)
def test_the_type_of_cells_is_in_the_name(name_of: Any, flags: dict[str, str]) -> None:
    assert name_of(**flags) != name_of()


def test_what_is_kept_of_drafts_is_in_the_name(name_of: Any) -> None:
    names = {name_of("qwen35", spec_type=kind) for kind in ("none", "draft-mtp", "ngram")}
    assert len(names) == 3


def test_one_byte_of_the_file_makes_another_name(
    name_of: Any, tiny_model_path: Any, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    shutil.copy(tiny_model_path("llama"), path)
    before = name_of(path)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    assert name_of(path) != before


def test_other_kernels_bits_make_another_name(name_of: Any, monkeypatch: Any) -> None:
    before = name_of()
    monkeypatch.setattr(identity, "BITS_VERSION", "another")
    assert name_of() != before


def test_a_numeric_path_that_differs_makes_another_name(name_of: Any, monkeypatch: Any) -> None:
    before = name_of("mamba")
    probe = identity.numeric_path
    monkeypatch.setattr(identity, "numeric_path", lambda model: probe(model)[::-1])
    assert name_of("mamba") != before


def test_a_file_is_read_whole_once(name_of: Any, monkeypatch: Any) -> None:
    before = name_of()
    monkeypatch.setattr(identity, "_digest", lambda path, n_bytes: "0" * 64)
    assert name_of() == before

"""Files that are no language model say what they are; every refusal names its file."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from gguf import GGUFValueType

from slotmux.kernels.compiler import KernelCache
from slotmux.kernels.cpu import detect_cpu
from slotmux.runtime.gguf import ModelFileError, open_gguf
from slotmux.runtime.gguf.values import Entry
from slotmux.runtime.lowered import Lowered, ModelConfig
from slotmux.runtime.models import family, has_mtp
from slotmux.runtime.models.architectures import FAMILIES
from slotmux.runtime.models.hparams import read_hparams
from tests.runtime.gguf.writer import File, pair
from tests.runtime.models.files.mutants import with_entries
from tests.runtime.models.isolation import golden


def of_architecture(name: str, folder: Path) -> Path:
    path = folder / "odd.gguf"
    path.write_bytes(File(pairs=[pair("general.architecture", GGUFValueType.STRING, name)]).pack())
    return path


@pytest.mark.parametrize("read", [read_hparams, family, has_mtp])
@pytest.mark.parametrize(("name", "words"), [("clip", "mmproj"), ("t5", "'t5' is not supported")])
def test_the_architecture(name, words, read, tmp_path):
    with pytest.raises(ModelFileError, match=words) as refused:
        read(open_gguf(of_architecture(name, tmp_path)))
    assert str(refused.value).startswith("odd.gguf: general.architecture")


@pytest.mark.parametrize(("kind", "words"), [("adapter", "LoRA"), ("mmproj", "projector")])
def test_the_type(kind, words):
    file = open_gguf(golden("llama").path)
    entries = {**file.metadata._entries, "general.type": Entry(GGUFValueType.STRING, kind, 0)}
    with pytest.raises(ModelFileError, match=words) as refused:
        read_hparams(with_entries(file, entries))
    assert str(refused.value).startswith("model.gguf: general.type")


@pytest.mark.parametrize("tensor", ["token_embd.weight", "blk.1.ffn_up.weight"])
def test_a_missing_tensor(tensor):
    file = open_gguf(golden("llama").path)
    tensors = {name: value for name, value in file.tensors.items() if name != tensor}
    config = ModelConfig(n_ctx=16, n_threads=1)
    with pytest.raises(ModelFileError) as refused:
        Lowered(replace(file, tensors=tensors), config, KernelCache(detect_cpu("auto"), None))
    assert str(refused.value) == f"model.gguf: {tensor}: this tensor is missing"


def test_a_head_of_its_own_says_what_stands_before_it():
    for name in set(FAMILIES.values()):
        module = import_module(f"slotmux.runtime.models.{name}")
        assert hasattr(module, "normed") or not hasattr(module, "head"), name

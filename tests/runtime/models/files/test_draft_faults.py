"""What is wrong with the block for multi-token prediction costs the drafts, never the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gguf import GGUFReader, GGUFValueType

from slotmux.kernels.compiler import KernelCache
from slotmux.kernels.cpu import detect_cpu
from slotmux.runtime.driver import Driver
from slotmux.runtime.gguf import GGUFFile, open_gguf
from slotmux.runtime.gguf.values import Entry
from slotmux.runtime.lowered import Lowered, ModelConfig
from tests.architectures import WITH_MTP
from tests.runtime.models.files.mutants import key_mutants, tensor_mutants, with_entries
from tests.runtime.models.files.rewrite import rewrite
from tests.runtime.models.isolation import golden, loaded
from tests.runtime.models.test_mtp import greedy

CONFIG = ModelConfig(n_ctx=16, n_ubatch=16, n_threads=1, max_drafts=2, use_mtp=True)
OWN_NORMS = ("nextn.shared_head_norm.weight", "layer_output_norm.weight")
# Its block ends in a layer norm, for which the model's own norm, of another kind, is no substitute.
HAS_OTHER_NORM = ("nemotron_h-latent",)


def lowered(file: GGUFFile) -> Lowered:
    return Lowered(file, CONFIG, KernelCache(detect_cpu("auto"), None))


def draft_tensors(file: GGUFFile) -> list[str]:
    last = file.metadata.get_u32(f"{file.architecture}.block_count") - 1
    return [name for name in file.tensors if name.startswith(f"blk.{last}.")]


@pytest.mark.parametrize("name", WITH_MTP)
def test_a_sound_block_has_drafts_and_no_warning(name):
    file = open_gguf(golden(name).path)
    assert lowered(file).drafts is not None
    assert not file.metadata.warnings


@pytest.mark.parametrize("name", WITH_MTP)
def test_faults_of_its_tensors(name):
    file = open_gguf(golden(name).path)
    n_faults = 0
    for tensor in draft_tensors(file):
        for what, mutant in tensor_mutants(file, tensor):
            if lowered(mutant).drafts is None:
                n_faults += 1
                assert len(mutant.metadata.warnings) == 1, what
                (line,) = mutant.metadata.warnings
                assert line.startswith("model.gguf: blk."), what
                assert line.endswith("served without drafts"), what
    assert n_faults > 50


@pytest.mark.parametrize("name", WITH_MTP)
def test_a_key_that_is_missing_or_wrong(name):
    file = open_gguf(golden(name).path)
    key = f"{file.architecture}.nextn_predict_layers"
    trunk = lowered(file).hparams.n_layers
    for what, mutant in key_mutants(file, key):
        model = lowered(mutant)
        assert model.hparams.n_layers == trunk, what
        assert (model.drafts is None) == (what != "INT64 1"), what
        assert bool(mutant.metadata.warnings) == (what != "INT64 1"), what


@pytest.mark.parametrize("name", WITH_MTP)
def test_the_whole_block_is_gone(name):
    file = open_gguf(golden(name).path)
    gone = set(draft_tensors(file))
    left = {key: tensor for key, tensor in file.tensors.items() if key not in gone}
    assert lowered(replace(file, tensors=left)).drafts is None


def test_a_block_in_a_family_that_we_know_none_of():
    file = open_gguf(golden("llama").path)
    n_blocks = file.metadata.get_u32("llama.block_count")
    entries = dict(file.metadata._entries)
    entries["llama.block_count"] = Entry(GGUFValueType.UINT32, n_blocks + 1, 0)
    one = file.tensors["output_norm.weight"]
    tensors = {**file.tensors, f"blk.{n_blocks}.nextn.enorm.weight": one}
    model = lowered(with_entries(replace(file, tensors=tensors), entries))
    assert model.drafts is None
    assert model.hparams.n_layers == n_blocks


@pytest.mark.parametrize("name", [name for name in WITH_MTP if name not in HAS_OTHER_NORM])
def test_the_output_norm_stands_in(name, kernel_cache_dir, tmp_path):
    """Guesses without a norm of its own are those with a copy of the output norm."""
    reference = golden(name)
    tensors = {t.name: np.array(t.data) for t in GGUFReader(reference.path).tensors}
    file = open_gguf(reference.path)
    n_blocks = file.metadata.get_u32(f"{file.architecture}.block_count")
    (own,) = [key for norm in OWN_NORMS if (key := f"blk.{n_blocks - 1}.{norm}") in tensors]
    copy = {own: tensors["output_norm.weight"]}
    found = []
    for i, change in enumerate((copy, {own: None})):
        path = rewrite(reference.path, tmp_path / f"{i}.gguf", tensors=change)
        with loaded(path, kernel_cache_dir, max_drafts=4, use_mtp=True) as model:
            driver = Driver(model, poison=True)
            greedy(model, driver)
            driver.open(0)
            *past, token = reference.prompts[1]
            driver.feed([(0, past)])
            found.append(driver.guess([(0, 4, token)]))
    assert np.array_equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1].view(np.int32), found[1][1].view(np.int32))


@pytest.mark.parametrize("name", HAS_OTHER_NORM)
def test_no_other_norm_stands_in(name):
    file = open_gguf(golden(name).path)
    own = next(key for key in file.tensors if key.endswith(OWN_NORMS[0]))
    left = {key: tensor for key, tensor in file.tensors.items() if key != own}
    assert lowered(replace(file, tensors=left)).drafts is None

"""Every key and every tensor of every golden model, changed in every way: the file is refused by
name, or it is served. Never another exception, never a NaN.

SLOTMUX_SWEEP=1 takes every change; else a third of them, always the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from zlib import crc32

import numpy as np
import pytest

from slotmux.kernels.compiler import KernelCache
from slotmux.kernels.cpu import detect_cpu
from slotmux.runtime.driver import run_pattern, whole
from slotmux.runtime.gguf import GGUFFile, ModelFileError, open_gguf
from slotmux.runtime.lowered import Lowered, ModelConfig
from slotmux.runtime.model import Model
from slotmux.runtime.models.ranges import RANGES
from slotmux.runtime.tokenizer import Tokenizer
from slotmux.server.templates.chat_template import file_template
from tests.architectures import ALL
from tests.runtime.models.files.mutants import key_mutants, tensor_mutants
from tests.runtime.models.isolation import golden, poison

SHARE = 1 if os.environ.get("SLOTMUX_SWEEP") else 3
CONFIG = ModelConfig(
    n_ctx=64, n_ubatch=64, n_slots=2, n_outputs=64, n_threads=1, max_drafts=1, use_mtp=True
)
TEXT_KEYS = ("tokenizer.", "general.")  # of no use to the lowering


def of_share(name: str, n: int = SHARE) -> bool:
    return crc32(name.encode()) % n == 0


def key_changes(file: GGUFFile) -> Iterator[tuple[str, GGUFFile]]:
    for key in file.metadata:
        for what, mutant in key_mutants(file, key):
            yield f"{key}: {what}", mutant


def tensor_changes(file: GGUFFile) -> Iterator[tuple[str, GGUFFile]]:
    """Of tensors that are the same in several blocks the first."""
    roles = {name.split(".", 2)[-1] if name[:4] == "blk." else name: name for name in file.tensors}
    for name in roles.values():
        for what, mutant in tensor_mutants(file, name):
            yield f"{name}: {what}", mutant


def is_served(file: GGUFFile, what: str) -> bool:
    """Whether it is lowered, or refused as it should be."""
    kernels = KernelCache(detect_cpu("auto"), None)
    try:
        if what.startswith(TEXT_KEYS):
            file_template(file.metadata, Tokenizer.from_metadata(file.metadata))
        Lowered(file, CONFIG, kernels)
    except ModelFileError as error:
        refused = error
    else:
        return True
    assert str(refused).startswith("model.gguf: "), what
    assert refused.field, what
    assert "\n" not in str(refused), what
    return False


@pytest.mark.parametrize("name", ALL)
def test_every_key_changed(name: str) -> None:
    file = open_gguf(golden(name).path)
    served = [is_served(new, what) for what, new in key_changes(file) if of_share(name + what)]
    assert 0 < sum(served) < len(served)


@pytest.mark.parametrize("name", ALL)
def test_every_tensor_changed(name: str) -> None:
    file = open_gguf(golden(name).path)
    served = [is_served(new, what) for what, new in tensor_changes(file) if of_share(name + what)]
    assert 0 < sum(served) < len(served)


@pytest.mark.parametrize("name", ALL)
def test_what_is_served_has_finite_logits(name, kernel_cache_dir):
    reference = golden(name)
    file = open_gguf(reference.path)
    changes = [*key_changes(file), *tensor_changes(file)]
    wanted = [
        (what, new)
        for what, new in changes
        if not what.startswith(TEXT_KEYS) and of_share(name + what, 40 * SHARE)
    ]
    served = [(what, new) for what, new in wanted if is_served(new, what)]
    for what, new in served[: None if SHARE == 1 else 2]:
        kernels = KernelCache(detect_cpu("auto"), kernel_cache_dir)
        model = Model(Lowered(new, CONFIG, kernels), kernels, 0, lambda *_: None)
        try:
            poison(model)
            prompt = reference.prompts[0][: min(16, model.n_ctx)]
            (got,) = run_pattern(model, [prompt], whole([len(prompt)]), poison=True)
        finally:
            model.close()
        assert np.isfinite(got).all(), what


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("rope.freq_base", "FLOAT64 0.0"),
        ("rope.freq_base", "FLOAT64 -1.0"),
        ("attention.layer_norm_rms_epsilon", "FLOAT64 -1.0"),
        ("attention.layer_norm_rms_epsilon", "FLOAT64 0.0"),
        ("attention.layer_norm_rms_epsilon", "FLOAT64 nan"),
        ("attention.layer_norm_rms_epsilon", "missing"),
        ("attention.head_count", "INT64 0"),
        ("attention.head_count_kv", "INT64 3"),
        ("context_length", "INT64 0"),
        ("embedding_length", "INT64 9223372036854775808"),
    ],
)
def test_the_key_is_named(key, change):
    file = open_gguf(golden("llama").path)
    mutant = dict(key_mutants(file, f"llama.{key}"))[change]
    with pytest.raises(ModelFileError) as refused:
        Lowered(mutant, CONFIG, KernelCache(detect_cpu("auto"), None))
    assert refused.value.field == f"llama.{key}"
    assert str(refused.value).startswith("model.gguf: ")


@pytest.mark.parametrize("kind", ["F64", "I8", "I16", "I32", "I64"])
@pytest.mark.parametrize("tensor", ["blk.0.attn_norm.weight", "blk.0.attn_q.weight"])
def test_the_tensor_and_its_type_are_named(tensor, kind):
    mutant = dict(tensor_mutants(open_gguf(golden("llama").path), tensor))[kind]
    with pytest.raises(ModelFileError, match=kind) as refused:
        Lowered(mutant, CONFIG, KernelCache(detect_cpu("auto"), None))
    assert refused.value.field == tensor


def test_a_tensor_that_one_block_lacks():
    mutant = dict(tensor_mutants(open_gguf(golden("qwen3").path), "blk.1.attn_k_norm.weight"))
    with pytest.raises(ModelFileError, match="other blocks have it") as refused:
        Lowered(mutant["missing"], CONFIG, KernelCache(detect_cpu("auto"), None))
    assert refused.value.field == "blk.1.attn_k_norm.weight"


def test_ranges_are_ranges():
    for name, bounds in RANGES.items():
        assert bounds.low < bounds.high, name

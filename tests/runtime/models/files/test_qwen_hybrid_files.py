"""qwen35 in quantised files, and a gate that published files store in another shape."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGUFReader

from slotmux.runtime.driver import run_pattern, whole
from tests.runtime.models.files.rewrite import rewrite
from tests.runtime.models.isolation import (
    assert_isolated,
    assert_same,
    golden,
    loaded,
)

# Activations are rounded to 8 bits, as llama.cpp does: as near to the dequantised model as
# llama.cpp's own kernels are, times three (see the folder).
QUANTISED = ("Q8_0", "Q4_0", "Q2_K", "Q4_K_M", "Q6_K", "IQ4_XS")


@pytest.mark.parametrize("kind", QUANTISED)
def test_quantised_files(kind, kernel_cache_dir):
    reference = golden("q-qwen35", kind)
    limits = reference.entry["quant"][kind]
    with loaded(reference.path, kernel_cache_dir) as model:
        for i, prompt in enumerate(reference.prompts):
            got = run_pattern(model, [prompt], whole([len(prompt)]), poison=True)[0]
            want = reference.arrays[f"deq{i}"]
            error = got[reference.arrays[f"rows{i}"]] - want
            assert np.linalg.norm(error) / np.linalg.norm(want) <= limits["tol_rel_l2_lcpp"]


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K_M"])
def test_quantised_alone_or_in_company_the_same_bits(kind, kernel_cache_dir):
    reference = golden("q-qwen35", kind)
    assert_isolated(reference.path, kernel_cache_dir, reference.prompts)


@pytest.mark.parametrize("name", ["qwen35moe", "qwen3next"])
def test_a_gate_of_one_row_may_have_one_dimension(name, kernel_cache_dir, tmp_path):
    """Published files store ffn_gate_inp_shexp as [n_embd], not [n_embd, 1]."""
    reference = golden(name)
    tensors = {t.name: np.array(t.data) for t in GGUFReader(reference.path).tensors}
    flat = {n: data.reshape(-1) for n, data in tensors.items() if "ffn_gate_inp_shexp" in n}
    assert flat
    path = rewrite(reference.path, tmp_path / "flat.gguf", tensors=flat)
    out = []
    for file in (reference.path, path):
        with loaded(file, kernel_cache_dir) as model:
            prompt = reference.prompts[1]
            out.append(run_pattern(model, [prompt], whole([len(prompt)]), poison=True))
    assert_same(name, out[1], out[0])

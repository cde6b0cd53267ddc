"""Mamba files that no golden model stands for: 8-bit weights, Falcon Mamba's norms, bad tensors."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize

from slotmux.runtime.driver import run_pattern, whole
from slotmux.runtime.gguf import ModelFileError
from tests.runtime.models.files.rewrite import rewrite
from tests.runtime.models.isolation import assert_isolated, assert_same, golden, loaded


def logits(path, kernel_cache, prompts):
    """Logits of whole prompts."""
    with loaded(path, kernel_cache) as model:
        return run_pattern(model, prompts, whole([len(p) for p in prompts]), poison=True)


@pytest.mark.parametrize("name", ["mamba", "granitehybrid", "falcon-h1", "nemotron_h"])
def test_8_bit_weights(name, kernel_cache_dir, tmp_path):
    """Q8_0 matrices against the same numbers as float32: what differs is that activations are
    rounded to 8 bits, which costs 1 to 5 % in these models (llama.cpp's rounding does as well)."""
    reference = golden(name)
    path = rewrite(reference.path, tmp_path / "q8_0.gguf", to_q8_0=True)
    rounded = {
        tensor.name: dequantize(tensor.data, tensor.tensor_type)
        for tensor in GGUFReader(path).tensors
        if tensor.tensor_type == GGMLQuantizationType.Q8_0
    }
    assert len(rounded) >= 6
    same = rewrite(reference.path, tmp_path / "f32.gguf", tensors=rounded)
    want = logits(same, kernel_cache_dir, reference.prompts)
    for found, exact in zip(logits(path, kernel_cache_dir, reference.prompts), want, strict=True):
        assert 1e-3 < np.linalg.norm(found - exact) / np.linalg.norm(exact) < 0.05
    assert_isolated(path, kernel_cache_dir, reference.prompts)


def test_dt_b_c_rms_is_norms_with_weights_of_one(kernel_cache_dir, tmp_path):
    reference = golden("mamba")
    flag = {"mamba.ssm.dt_b_c_rms": True}
    flagged = rewrite(reference.path, tmp_path / "flag.gguf", keys=flag)
    ones = {
        f"blk.{layer}.ssm_{name}_norm.weight": np.ones(n, np.float32)
        for layer in range(3)
        for name, n in (("dt", 5), ("b", 8), ("c", 8))
    }
    weighted = rewrite(reference.path, tmp_path / "ones.gguf", tensors=ones)
    got = logits(flagged, kernel_cache_dir, reference.prompts)
    assert_same("norms", got, logits(weighted, kernel_cache_dir, reference.prompts))
    plain = logits(reference.path, kernel_cache_dir, reference.prompts)
    assert np.abs(got[1] - plain[1]).max() > 0.1


def test_without_ssm_norm_there_is_only_the_gate(kernel_cache_dir, tmp_path):
    """That it computes the gate is for tests/kernels; here the file loads and has its say."""
    reference = golden("falcon-h1")
    dropped = {f"blk.{layer}.ssm_norm.weight": None for layer in range(3)}
    path = rewrite(reference.path, tmp_path / "gate.gguf", tensors=dropped)
    got = logits(path, kernel_cache_dir, reference.prompts)
    plain = logits(reference.path, kernel_cache_dir, reference.prompts)
    assert all(np.isfinite(rows).all() for rows in got)
    assert np.abs(got[1] - plain[1]).max() > 0.1


@pytest.mark.parametrize(
    ("name", "keys", "tensors", "field"),
    [
        ("mamba", {}, {"blk.1.ssm_a": np.ones((96, 8), np.float32)}, "blk.1.ssm_a"),
        ("mamba2", {}, {"blk.0.ssm_a": np.full((8, 1), np.nan, np.float32)}, "blk.0.ssm_a"),
        ("mamba2", {"mamba2.ssm.group_count": 3}, {}, "mamba2.ssm.group_count"),
        ("mamba2", {"mamba2.ssm.time_step_rank": 7}, {}, "mamba2.ssm.inner_size"),
        ("mamba2", {"mamba2.ssm.conv_kernel": 1}, {}, "mamba2.ssm.conv_kernel"),
        ("mamba", {"mamba.ssm.state_size": 4}, {}, "blk.0.ssm_x.weight"),
        ("mamba", {}, {"blk.2.ssm_d": None}, "blk.2.ssm_d"),
        ("nemotron_h-moe", {"nemotron_h_moe.expert_group_count": 2}, {},
         "nemotron_h_moe.expert_group_count"),
    ],
)  # fmt: skip
def test_bad_files_are_refused(name, keys, tensors, field, kernel_cache_dir, tmp_path):
    path = rewrite(golden(name).path, tmp_path / "bad.gguf", keys, tensors)
    with pytest.raises(ModelFileError) as refused, loaded(path, kernel_cache_dir):
        pass
    assert refused.value.field == field

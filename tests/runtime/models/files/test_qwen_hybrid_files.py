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


def tensors_of(path):
    return {t.name: np.array(t.data) for t in GGUFReader(path).tensors}


def assert_computes_as(reference, path, kernel_cache_dir):
    """The other file gives the same bits as the golden one, draft block included."""
    out = []
    for file in (reference.path, path):
        with loaded(file, kernel_cache_dir) as model:
            prompt = reference.prompts[1]
            out.append(run_pattern(model, [prompt], whole([len(prompt)]), poison=True))
    assert_same(path.name, out[1], out[0])


@pytest.mark.parametrize("name", ["qwen35moe", "qwen3next"])
def test_a_gate_of_one_row_may_have_one_dimension(name, kernel_cache_dir, tmp_path):
    """Published files store ffn_gate_inp_shexp as [n_embd], not [n_embd, 1]."""
    reference = golden(name)
    tensors = tensors_of(reference.path)
    flat = {n: data.reshape(-1) for n, data in tensors.items() if "ffn_gate_inp_shexp" in n}
    assert flat
    path = rewrite(reference.path, tmp_path / "flat.gguf", tensors=flat)
    assert_computes_as(reference, path, kernel_cache_dir)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("name", ["qwen35moe", "qwen3next", "deepseek2", "gemma4-moe"])
def test_gates_and_ups_of_experts_may_be_one_tensor(name, every, kernel_cache_dir, tmp_path):
    """llama.cpp's ``convert_hf_to_gguf.py --fuse-gate-up-exps``: in all layers or in some."""
    reference = golden(name)
    tensors = tensors_of(reference.path)
    gates = sorted(n for n in tensors if n.endswith("ffn_gate_exps.weight"))
    changed = {}
    for gate in gates[::every]:
        up, fused = (gate.replace("gate_exps", kind) for kind in ("up_exps", "gate_up_exps"))
        changed |= {gate: None, up: None, fused: np.concatenate([tensors[gate], tensors[up]], 1)}
    assert changed or "ffn_gate_up_exps" in " ".join(tensors)
    path = rewrite(reference.path, tmp_path / "fused.gguf", tensors=changed)
    assert_computes_as(reference, path, kernel_cache_dir)


def test_old_files_of_qwen3next_have_one_matrix_in(kernel_cache_dir, tmp_path):
    """ssm_in, head by head: q, k, v, z (llama.cpp's "legacy" path of qwen3next)."""
    reference = golden("qwen3next")
    tensors, keys = tensors_of(reference.path), GGUFReader(reference.path).fields
    d, n_k, n_v = (
        int(keys[f"qwen3next.ssm.{key}"].contents())
        for key in ("state_size", "group_count", "time_step_rank")
    )
    assert n_v > n_k > 1
    changed = {}
    for name in [n for n in tensors if n.endswith("attn_gate.weight")]:
        qkv = name.replace("attn_gate", "attn_qkv")
        q, k, v = np.split(tensors[qkv], [n_k * d, 2 * n_k * d])
        heads = [m.reshape(n_k, -1, m.shape[1]) for m in (q, k, v, tensors[name])]
        both = np.concatenate(heads, axis=1).reshape(-1, q.shape[1])
        changed |= {name: None, qkv: None, name.replace("attn_gate", "ssm_in"): both}
    assert changed
    path = rewrite(reference.path, tmp_path / "legacy.gguf", tensors=changed)
    assert_computes_as(reference, path, kernel_cache_dir)

"""Choosing a path by what a CPU can do, on CPUs that are not here."""

from __future__ import annotations

import pytest
from llvmlite import binding as llvm

from slotmux.kernels.cpu import Isa, detect_cpu

AVX2 = {"avx2", "fma", "f16c", "sse4.2"}
ALDER_LAKE = AVX2 | {"avxvnni"}
SKYLAKE_X = AVX2 | {"avx512f", "avx512bw", "avx512vl", "avx512dq"}
ICE_LAKE = SKYLAKE_X | {"avx512vnni", "avx512vbmi"}
SAPPHIRE_RAPIDS = ICE_LAKE | {"avxvnni", "avx512bf16"}
NEHALEM = {"sse4.2"}
EVERY = SAPPHIRE_RAPIDS


@pytest.fixture
def on_cpu(monkeypatch):
    """on_cpu(features): detection sees a CPU that has these, and not the others."""

    def set_features(features):
        flags = {name: name in features for name in EVERY}
        monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: flags)

    return set_features


def enabled(cpu):
    return {flag[1:] for flag in cpu.features.split(",") if flag.startswith("+")}


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (NEHALEM, Isa.PORTABLE),
        (AVX2, Isa.AVX2),
        (AVX2 - {"f16c"}, Isa.PORTABLE),
        (AVX2 - {"fma"}, Isa.PORTABLE),
        (ALDER_LAKE, Isa.AVX_VNNI),
        (SKYLAKE_X, Isa.AVX2),
        (ICE_LAKE - {"avx512vbmi"}, Isa.AVX512_VNNI),
        (ICE_LAKE, Isa.AVX512_VBMI),
        (ICE_LAKE - {"avx512vl"}, Isa.AVX2),
        (SAPPHIRE_RAPIDS, Isa.AVX512_BF16),
        (SAPPHIRE_RAPIDS - {"avx512bf16"}, Isa.AVX512_VBMI),
        (SAPPHIRE_RAPIDS - {"avx512vbmi"}, Isa.AVX512_VNNI),
        (SAPPHIRE_RAPIDS - {"avx512vnni"}, Isa.AVX_VNNI),
    ],
)
def test_auto_takes_the_fastest_path_there_is(on_cpu, features, expected):
    on_cpu(features)
    cpu = detect_cpu()
    assert cpu.isa is expected
    assert enabled(cpu) <= features, "a feature that the CPU lacks"
    assert detect_cpu(str(expected)) == cpu


def test_a_slower_path_leaves_out_wider_registers(on_cpu):
    on_cpu(SAPPHIRE_RAPIDS)
    assert enabled(detect_cpu("avx512vbmi")) == SAPPHIRE_RAPIDS - {"avx512bf16"}
    assert enabled(detect_cpu("avx512vnni")) == SAPPHIRE_RAPIDS - {"avx512bf16", "avx512vbmi"}
    assert enabled(detect_cpu("avxvnni")) == ALDER_LAKE
    assert enabled(detect_cpu("avx2")) == AVX2


def test_avxvnni_is_never_claimed_for_a_cpu_without_it(on_cpu):
    on_cpu(ICE_LAKE)
    assert enabled(detect_cpu("avxvnni")) == ICE_LAKE


@pytest.mark.parametrize(
    ("features", "isa"),
    [
        (AVX2, "avx512vnni"),
        (AVX2, "avxvnni"),
        (SKYLAKE_X, "avx512vnni"),
        (ICE_LAKE, "avx512bf16"),
        (NEHALEM, "avx2"),
        (EVERY, "neon"),
        (EVERY, "AVX2"),
        (EVERY, ""),
    ],
)
def test_what_the_cpu_lacks_is_refused_by_name(on_cpu, features, isa):
    on_cpu(features)
    with pytest.raises(ValueError, match=f"isa: .*{isa!r}"):
        detect_cpu(isa)


def test_the_portable_path_runs_everywhere(on_cpu):
    on_cpu(NEHALEM)
    assert detect_cpu("portable").isa is Isa.PORTABLE
    assert detect_cpu("auto").isa is Isa.PORTABLE

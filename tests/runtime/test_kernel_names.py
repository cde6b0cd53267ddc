"""A kernel's name is its place in the cache: two kernels must not share one."""

import pytest

from slotmux.kernels.compiler import KernelCache
from slotmux.kernels.cpu import detect_cpu
from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.lowered import Lowered, ModelConfig


@pytest.fixture(scope="module")
def builds(golden_dir):
    """(name, build) of every kernel of every golden model."""
    found = []
    for path in sorted(golden_dir.glob("*/model*.gguf")):
        lowered = Lowered(open_gguf(path), ModelConfig(n_ctx=64), KernelCache(detect_cpu()))
        found += lowered.builds.items()
    return found


def test_a_name_stands_for_one_source(builds):
    sources: dict[str, set[tuple[str, str]]] = {}
    for name, build in builds:
        source = build()
        sources.setdefault(name, set()).add((source.__module__, source.__qualname__))
    assert len(sources) > 40
    assert {name: s for name, s in sources.items() if len(s) > 1} == {}


def test_a_name_tells_apart_what_a_kernel_closes_over(builds):
    """One source built with other constants must have another name."""
    constants: dict[str, set[str]] = {}
    for name, build in builds:
        source = build()
        cells = [cell.cell_contents for cell in source.__closure__ or ()]
        plain = [repr(value) for value in cells if isinstance(value, int | float | str | bool)]
        constants.setdefault(name, set()).add("|".join(plain))
    assert {name: c for name, c in constants.items() if len(c) > 1} == {}

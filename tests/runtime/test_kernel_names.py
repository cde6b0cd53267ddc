"""A kernel's name is its place in the cache: two kernels must not share one."""

from collections.abc import Iterator
from types import FunctionType
from typing import Any

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


def parts_of(source: Any) -> Iterator[Any]:
    """A kernel's function, the functions that it and they close over, and the constants."""
    function = getattr(source, "py_func", source)  # compiled by Numba, or not yet
    if isinstance(function, tuple):
        for member in function:
            yield from parts_of(member)
    elif isinstance(function, int | float | str | bool):
        yield repr(function)
    elif isinstance(function, FunctionType):
        yield f"{function.__module__}.{function.__qualname__}"
        for cell in function.__closure__ or ():
            yield from parts_of(cell.cell_contents)


def test_a_name_stands_for_one_source(builds):
    sources: dict[str, set[str]] = {}
    for name, build in builds:
        functions = [part for part in parts_of(build()) if part.startswith("slotmux.")]
        sources.setdefault(name, set()).add("|".join(functions))
    assert len(sources) > 40
    assert {name: s for name, s in sources.items() if len(s) > 1} == {}


def test_a_name_tells_apart_what_a_kernel_closes_over(builds):
    """One source built with other constants must have another name."""
    constants: dict[str, set[str]] = {}
    for name, build in builds:
        constants.setdefault(name, set()).add("|".join(parts_of(build())))
    assert {name: c for name, c in constants.items() if len(c) > 1} == {}

"""A kernel's name is its place in the cache: two kernels must not share one."""

from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

from slotmux.kernels import sources
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


def functions_of(value: Any, seen: dict[int, FunctionType]) -> None:
    """Every function that a kernel's source reaches: by what it closes over, by its globals, by
    modules whose attributes it names."""
    if isinstance(value, tuple):
        for member in value:
            functions_of(member, seen)
    value = getattr(value, "py_func", getattr(value, "_defn", value))
    if not isinstance(value, FunctionType) or id(value) in seen:
        return
    if not value.__module__.startswith("slotmux."):
        return
    seen[id(value)] = value
    for cell in value.__closure__ or ():
        functions_of(cell.cell_contents, seen)
    for code in codes_of(value.__code__):
        for name in code.co_names:
            found = value.__globals__.get(name)
            functions_of(found, seen)
            if isinstance(found, ModuleType):
                for attribute in code.co_names:
                    functions_of(getattr(found, attribute, None), seen)


def codes_of(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_of(constant)


def test_a_kernels_key_is_made_of_all_that_it_calls_and_of_no_other_room(builds):
    rooms = {name for name in sources._sources() if ".ops." in name}
    n_left_out = []
    for name, build in dict(builds).items():
        of_key = sources._closure(frozenset(sources._builders(build)))
        seen: dict[int, FunctionType] = {}
        functions_of(build(), seen)
        used = {function.__module__ for function in seen.values()} - {build.__module__}
        used = {module for module in used if module.startswith("slotmux.kernels.")}
        assert used, name
        assert used <= of_key, (name, used - of_key)
        n_left_out.append(len(rooms - of_key))
    assert min(n_left_out) > len(rooms) // 2  # an edit of most ops leaves any kernel as it is

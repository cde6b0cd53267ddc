"""What Numba makes of kernels: nested functions are linked as they were optimised, not as LLVM
rewrites them for machine code."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numba import njit

from slotmux.kernels.address import load_i64, store_i64
from slotmux.kernels.codegen import optimised
from slotmux.kernels.ops.dense.lookup import build_lookup

# What CodeGenPrepare makes of an address in whose computation it sees no pointer.
REWRITTEN = re.compile(r"getelementptr (inbounds )?i8, ptr null")


@njit
def _sum(address, n):
    total = 0
    for i in range(n):
        total += load_i64(address + 8 * i)
    return total


@njit
def _twice(x):
    return 2 * x


def summed(op, step, thread):
    store_i64(op, _sum(step, load_i64(thread)))


def doubled(op, step, thread):
    store_i64(op, _twice(step))


@pytest.mark.parametrize("format_name", ["q4_0", "q3_k", "iq1_m"])
def test_addresses_are_not_rewritten_before_they_are_linked(format_name):
    assert not REWRITTEN.search(str(optimised(build_lookup(format_name), "entry")))


def test_a_kernel_is_one_function_and_its_entry():
    functions = [f.name for f in optimised(summed, "entry").functions if not f.is_declaration]
    assert "entry" in functions
    assert not any("_sum" in name for name in functions)


def test_a_function_of_a_kernel_is_not_called_from_python():
    optimised(summed, "entry")
    with pytest.raises(TypeError):
        _sum(0, 0)


def test_a_function_that_was_called_from_python_is_not_linked():
    """Its IR is the rewritten one."""
    assert _twice(3) == 6
    with pytest.raises(TypeError, match="called from Python"):
        optimised(doubled, "entry")


def test_a_process_that_uses_numba_otherwise_compiles_kernels_and_goes_on():
    assert _with_memory(3) == 6
    optimised(summed, "entry")
    assert _with_memory.py_func(3) == njit(_with_memory.py_func)(3)


@njit
def _with_memory(n):
    return 2 * np.ones(n).sum()

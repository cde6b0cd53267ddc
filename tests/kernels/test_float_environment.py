"""A thread that flushes denormal numbers computes other bits: a team refuses to start there."""

from __future__ import annotations

import ctypes
import threading

import pytest
from llvmlite import binding as llvm

from slotmux.kernels.team import make_team

# mov eax, edi; push rax; ldmxcsr [rsp]; pop rax; ret
LOAD_MXCSR = bytes.fromhex("89f8500fae142458c3")
DEFAULT, FLUSHING = 0x1F80, 0x9FC0


@pytest.mark.skipif(not llvm.get_default_triple().startswith("x86_64"), reason="another CPU")
def test_a_team_refuses_a_thread_that_flushes_denormals(kernel_cache_dir):
    """As a library built with -ffast-math leaves the thread that loads it."""
    import mmap

    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(LOAD_MXCSR)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    set_mxcsr = ctypes.CFUNCTYPE(None, ctypes.c_uint32)(address)
    errors = []

    def start():
        set_mxcsr(FLUSHING)
        try:
            make_team("portable", 1, kernel_cache_dir).close()
        except RuntimeError as error:
            errors.append(str(error))
        finally:
            set_mxcsr(DEFAULT)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert len(errors) == 1
    assert "denormal" in errors[0]

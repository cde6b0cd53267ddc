"""Compiling missing kernels in other processes, before the model is loaded in this one.

Two reasons: every core compiles (Numba's compiler runs one thread a process), and the compiler's
memory, some 150 MB that it never gives back, goes with those processes. They hand over machine
code through the kernel cache on disk; without one, kernels are compiled where they are used.

A child lowers the same file and compiles the kernels that are named on its standard input, one a
line, and answers each with a line.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from slotmux.kernels.compiler import KernelCache
from slotmux.kernels.cpu import detect_cpu
from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.lowered import ModelConfig
from slotmux.runtime.lowered_encoder import lower_file

log = logging.getLogger(__name__)
# Kernels that take seconds are started first, so that the last child is not left with one.
_SLOW = ("attention.", "sample", "rope.", "delta_net", "mamba", "wkv", "experts")
# What a child runs. A thread ends it when its parent is gone, however that ended, from before the
# compiler is imported on: a compilation cannot be interrupted. (The kernel's own signal for that
# hangs on the thread of the parent that started the child, not on the parent.)
_CHILD = """
import os, sys, threading, time

def watch(parent=int(sys.argv[1])):
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)

threading.Thread(target=watch, daemon=True).start()
from slotmux.runtime.precompile import compile_named
compile_named(*sys.argv[2:])
"""


def compile_all(
    path: Path,
    config: ModelConfig,
    kernels: KernelCache,
    builds: Mapping[str, Callable[[], Callable[..., None]]],
    progress: Callable[[str, float], None],
) -> int:
    """Have every kernel of a program at hand; returns how many other processes compiled."""
    progress("compile", 0.0)
    n_compiled = precompile(path, config, kernels, builds, progress)
    for i, (name, build) in enumerate(builds.items()):
        kernels.address(name, build)
        progress("compile", (i + 1) / len(builds))
    return n_compiled


def precompile(
    path: Path,
    config: ModelConfig,
    kernels: KernelCache,
    builds: Mapping[str, Callable[[], Callable[..., None]]],
    progress: Callable[[str, float], None],
) -> int:
    """Have those kernels that are not in the cache compiled into it; returns their number.

    A child that fails leaves its kernels to the caller, who compiles what is missing.
    """
    missing = [name for name, build in builds.items() if not kernels.has(name, build)]
    n_children = min(len(missing) // 2, config.n_threads or len(os.sched_getaffinity(0)), 4)
    if missing:
        kernels.make_room()
    if not kernels.is_on_disk or n_children < 1:
        return 0
    missing.sort(key=lambda name: not name.startswith(_SLOW))
    queue, done, lock = missing[::-1], [0], threading.Lock()

    def work() -> None:
        with _child(path, config) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            while True:
                with lock:
                    if not queue:
                        break
                    name = queue.pop()
                try:
                    child.stdin.write(name + "\n")
                    child.stdin.flush()
                    answer = child.stdout.readline().strip()
                except OSError:
                    answer = ""
                if answer != name:
                    log.warning("kernel %s could not be compiled in a process of its own", name)
                    break
                with lock:
                    done[0] += 1
                    progress("compile", done[0] / len(builds))
            with contextlib.suppress(BrokenPipeError):  # of a child that is gone
                child.stdin.close()

    config = replace(config, kernel_cache=kernels.root)  # may be a private one
    # Daemons: a child that compiles must not hold up the end of this process. It dies with it.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(n_children)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done[0]


def _child(path: Path, config: ModelConfig) -> subprocess.Popen[str]:
    fields = asdict(replace(config, panel_cache=None))
    fields["kernel_cache"] = str(config.kernel_cache)
    return subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(os.getpid()), str(path), json.dumps(fields)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # an interrupt at the terminal is the parent's to answer
        # What this process can import, the child can.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )


def compile_named(path: str, fields: str) -> None:
    """Compile the kernels named on standard input, one a line, into the cache."""
    values = json.loads(fields)
    values["kernel_cache"] = Path(values["kernel_cache"])
    config = ModelConfig(**values)
    kernels = KernelCache(detect_cpu(config.isa), config.kernel_cache)
    builds = lower_file(open_gguf(Path(path)), config, kernels).builds
    for line in sys.stdin:
        name = line.strip()
        kernels.address(name, builds[name])
        try:
            print(name, flush=True)
        except BrokenPipeError:  # the parent is gone; what Python has buffered is nobody's
            os._exit(1)

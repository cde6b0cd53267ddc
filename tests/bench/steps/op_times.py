"""Where the time of a step goes, op by op: generation of one and of several sequences, a prompt.

    python -m tests.bench.steps.op_times MODEL.gguf --parallel 1,8 --prompt 512 --threads 2

Every op waits here for all of those before it, so a step takes a little longer than a real one.
Products are told apart by their sizes; GB/s are of the bytes of panels.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from slotmux.kernels.address import (
    call_kernel,
    load_acquire,
    load_i64,
    store_i64,
)
from slotmux.kernels.claims import (
    E_KERNEL,
    E_OP,
    E_SYNC,
    N_ENTRY_WORDS,
    P_ENTRIES,
    P_N_OPS,
    P_STEP,
    T_EPOCH,
    T_OP_INDEX,
    T_SYNC,
    TEAM_EPOCH,
    _wait_for_ops,
)
from slotmux.kernels.compiler import as_callable
from slotmux.kernels.formats import FORMATS
from slotmux.kernels.ops.dense.gated import GATED
from slotmux.kernels.ops.dense.linear import LINEAR
from slotmux.kernels.ops.moe.experts import EXPERTS
from slotmux.kernels.ops.moe.gated import EXPERT_GATED
from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.model import Model
from slotmux.server.commands.measure import BenchPlan, Lanes
from slotmux.server.loading.load import load
from slotmux.server.loading.plan import Sequences, make_plan
from slotmux.server.settings import load_settings

T_STAMPS = 31  # the last word of a thread's struct, which nothing else uses
N_STEPS, N_WARM = 32, 6
IDLE_SECONDS = 1e-6


@intrinsic
def _ticks(ctx: Any) -> Any:
    """The CPU's own clock."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        i64 = ir.IntType(64)
        name = "llvm.readcyclecounter"
        return b.call(cgutils.get_or_insert_function(b.module, ir.FunctionType(i64, []), name), [])

    return types.int64(), codegen


@njit
def _run_one_by_one(program, thread, epoch, stamps):  # type: ignore[no-untyped-def]
    store_i64(thread + 8 * T_EPOCH, epoch)
    n_ops = load_i64(program + 8 * P_N_OPS)
    for i in range(n_ops):
        entry = program + 8 * (P_ENTRIES + i * N_ENTRY_WORDS)
        store_i64(stamps + 8 * i, _ticks())
        store_i64(thread + 8 * T_SYNC, load_i64(entry + 8 * E_SYNC))
        store_i64(thread + 8 * T_OP_INDEX, i)
        kernel, step = load_i64(entry + 8 * E_KERNEL), load_i64(program + 8 * P_STEP)
        call_kernel(kernel, load_i64(entry + 8 * E_OP), step, thread)
        _wait_for_ops(program, thread, i, i + 1)
    store_i64(stamps + 8 * n_ops, _ticks())


def _join(team, program, thread):  # type: ignore[no-untyped-def]
    """As slotmux.kernels.claims.join, noting the time before every op."""
    epoch = load_acquire(team + TEAM_EPOCH)
    _run_one_by_one(program, thread, epoch, load_i64(thread + 8 * T_STAMPS))


def _op_names(model: Model) -> tuple[list[str], list[int]]:
    """What each op of the program is, and the bytes of its weights (products only), of experts
    those that the last step chose."""
    program, kernels = model._program, model.team.kernels
    by_address = {address: name for name, address in kernels._addresses.items()}
    names, sizes = [], []
    for i, operands in enumerate(program._keep):
        at = P_ENTRIES + i * N_ENTRY_WORDS
        name, n_bytes = by_address[int(program._words[at + E_KERNEL])], 0
        if name.startswith(("experts.", "expert_gated.")):
            sizes_text, n_bytes = _experts(name, operands)
            name = f"{name} {sizes_text}"
        elif name.startswith(("linear.", "gated.")):
            f, layout = FORMATS[name.split(".")[1]], LINEAR if name[0] == "l" else GATED
            n_panels, n_blocks = operands[layout.n_panels // 8], operands[layout.n_blocks // 8]
            n_panels = n_panels if layout is LINEAR else 2 * n_panels
            name = f"{name} {n_blocks * f.block_inputs} -> {n_panels * 16}"
            n_bytes = int(n_panels * n_blocks) * f.block_bytes
        names.append(name)
        sizes.append(n_bytes)
    return names, sizes


def _experts(name: str, operands: NDArray[np.int64]) -> tuple[str, int]:
    """Inputs and outputs of one expert; bytes of those that the last step chose."""
    layout = EXPERTS if name.startswith("experts.") else EXPERT_GATED
    f, expert_bytes = FORMATS[name.split(".")[1]], int(operands[layout.expert_bytes // 8])
    n_inputs = int(operands[layout.n_blocks // 8]) * f.block_inputs
    n_active = ctypes.c_int64.from_address(int(operands[layout.counts // 8])).value
    n_outputs = 16 * expert_bytes // f.panel_bytes(n_inputs)
    return f"{n_inputs} -> {n_outputs}", n_active * expert_bytes


@njit
def _clock():  # type: ignore[no-untyped-def]
    return _ticks()


def _tick_rate() -> float:
    """Ticks a second."""
    _clock()
    seconds, ticks = time.perf_counter(), _clock()
    time.sleep(0.1)
    return float((_clock() - ticks) / (time.perf_counter() - seconds))


def _seconds(
    model: Model, lanes: Lanes, n_parallel: int, n_tokens: int, n_drafts: int = 0
) -> NDArray[np.float64]:
    """Seconds of every op, the median over steps of ``n_tokens`` for each sequence, of which the
    last ``n_drafts`` are drafts that turn out to be right."""
    n_ops = model._program.n_ops
    stamps = np.zeros(n_ops + 1, np.int64)
    model.team._structs[0][T_STAMPS] = stamps.ctypes.data
    found = []
    is_prompt = n_tokens > 1 + n_drafts
    for i in range(N_STEPS):
        if is_prompt or i == 0:
            lanes.begin(n_parallel)
            if n_drafts:  # a sequence's first token cannot be one
                lanes.driver.step([(lane, [1]) for lane in range(n_parallel)])
        first = [(i * n_parallel + lane) * n_tokens for lane in range(n_parallel)]
        lanes.driver.step(
            [
                (lane, [(at + j) * 7919 % model.n_vocab for j in range(n_tokens)])
                for lane, at in enumerate(first)
            ],
            outputs="last" if is_prompt else "all",
            drafts=[(n_drafts, n_drafts)] * n_parallel,
        )
        if is_prompt or i == N_STEPS - 1:
            lanes.end(n_parallel)
        assert stamps.all(), "the step has run past the kernel that notes the times"
        found.append(np.diff(stamps))
        stamps[:] = 0
    return np.asarray(np.median(found[N_WARM:], axis=0) / _tick_rate())


def _report(names: list[str], sizes: list[int], seconds: NDArray[np.float64]) -> None:
    print(f"{1e3 * seconds.sum():.3f} ms a step, {len(names)} ops")
    total: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for name, n_bytes, each in zip(names, sizes, seconds, strict=True):
        for i, value in enumerate((1, each, n_bytes)):
            total[name][i] += value
    for name, (n, each, n_bytes) in sorted(total.items(), key=lambda item: -item[1][1]):
        is_idle = each < n * IDLE_SECONDS  # of gate, up and GLU by one or three ops, one is
        rate = f"{n_bytes / each / 1e9:6.1f} GB/s" if n_bytes and not is_idle else ""
        share = 100 * each / seconds.sum()
        print(f"  {name:36} {n:4.0f} x {1e6 * each / n:8.1f} us  {share:5.1f} %  {rate}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.steps.op_times")
    parser.add_argument("model", type=Path)
    parser.add_argument("--parallel", default="1,8")
    parser.add_argument("--prompt", type=int, default=0, help="tokens of a prompt; 0: none")
    parser.add_argument("--depth", type=int, default=0, help="tokens before those measured")
    parser.add_argument("--drafts", type=int, default=0, help="verified beside each token")
    parser.add_argument("--threads", type=int, default=0, help="0: one a physical core")
    options = parser.parse_args()
    parallels = [int(n) for n in options.parallel.split(",") if n]
    n_prompt = options.prompt
    n_drafts = options.drafts
    plan = BenchPlan(
        n_prompt,
        1 + N_STEPS * (1 + n_drafts),
        depths=[options.depth],
        parallels=parallels or [1],
        n_repeats=1,
    )
    settings = load_settings(
        ubatch_size=max(512 if options.depth else 64, n_prompt),
        threads=options.threads,
        spec_type="ngram" if n_drafts else "none",  # a forward that verifies; nothing is looked up
        spec_draft_n_max=n_drafts,
    )
    room = Sequences(plan.n_slots, plan.n_ctx)
    model = load(make_plan(settings, open_gguf(options.model), room))
    lanes = Lanes(model, plan)
    lanes.deepen(options.depth)
    model.team._join = as_callable(model.team.kernels.address("bench.op_times", lambda: _join), 3)
    for n in parallels:
        print(f"{n} sequences: ", end="")
        seconds = _seconds(model, lanes, n, 1 + n_drafts, n_drafts)
        _report(*_op_names(model), seconds)
    if n_prompt:
        print(f"prompt of {n_prompt}: ", end="")
        seconds = _seconds(model, lanes, 1, n_prompt)
        _report(*_op_names(model), seconds)
    model.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

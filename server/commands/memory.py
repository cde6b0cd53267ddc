"""How much memory serving a model file takes, from its header alone, and how much there may be."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from runtime.gguf import GGUFFile
from server.commands.options import CommandError

BYTES_PER_VALUE = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32}
# The interpreter with its libraries, compiled kernels, buffers of a step.
BASE_BYTES = 200 * 10**6
MAX_AUTO_CELLS = 32_768  # long contexts cost memory: they are had by asking


@dataclass(frozen=True, slots=True)
class MemoryNeeded:
    """The budget of a server, in bytes."""

    n_slots: int
    n_ctx: int  # most tokens of one sequence
    n_cells: int
    cell_bytes: float  # of one token, in all layers
    weights_bytes: int

    @property
    def kv_bytes(self) -> int:
        return round(self.n_cells * self.cell_bytes)

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + BASE_BYTES


def memory_needed(
    file: GGUFFile, n_slots: int, n_ctx: int, n_cells: int, cache_type_k: str, cache_type_v: str
) -> MemoryNeeded:
    """What ``n_slots`` sequences of ``n_ctx`` tokens need with ``n_cells`` KV cells in all.

    0 cells: enough for all slots. 0 tokens: as many as the model was trained for, and then at most
    MAX_AUTO_CELLS of each. Raises CommandError for more tokens than that.
    """
    n_ctx_train = file.metadata.get_u32(f"{file.architecture}.context_length")
    if n_ctx > n_ctx_train:
        raise CommandError(f"--ctx-size {n_ctx}: the model was trained for {n_ctx_train} tokens")
    if 0 < n_cells < n_ctx:
        raise CommandError(f"--kv-size {n_cells} does not hold one request of {n_ctx} tokens")
    if not n_ctx:
        n_ctx = min(n_ctx_train, n_cells or MAX_AUTO_CELLS)
        n_cells = n_cells or min(n_slots * n_ctx, MAX_AUTO_CELLS)
    return MemoryNeeded(
        n_slots=n_slots,
        n_ctx=n_ctx,
        n_cells=n_cells or n_slots * n_ctx,
        cell_bytes=cell_bytes(file, cache_type_k, cache_type_v),
        weights_bytes=sum(tensor.n_bytes for tensor in file.tensors.values()),
    )


def check_fits(needed: MemoryNeeded, limit: int) -> None:
    """Raises CommandError, with what would fit, when more is needed than ``limit`` bytes."""
    if needed.total_bytes <= limit:
        return
    message = (
        f"this needs {needed.total_bytes / 2**20:.0f} MiB (weights"
        f" {needed.weights_bytes / 2**20:.0f}, KV cells {needed.kv_bytes / 2**20:.0f}),"
        f" the limit is {limit / 2**20:.0f} MiB"
    )
    n_left = limit - (needed.total_bytes - needed.kv_bytes)
    n_ctx = int(n_left / needed.cell_bytes / needed.n_slots) if needed.cell_bytes else 0
    if n_ctx >= 16:
        message += (
            f"; --ctx-size {n_ctx} would fit, or fewer slots than --parallel {needed.n_slots}"
        )
    raise CommandError(message)


def memory_limit() -> int:
    """Bytes that this process may use: the machine's memory or its control group's limit."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _cgroup_files():
        text = path.read_text().strip() if path.is_file() else "max"
        if text.isdigit():
            limit = min(limit, int(text))
    return limit


def _cgroup_files() -> list[Path]:
    """The limits of this process's control group and of those around it, in both versions."""
    root = Path("/sys/fs/cgroup")
    files = [root / "memory.max", root / "memory" / "memory.limit_in_bytes"]
    membership = Path("/proc/self/cgroup")
    for line in membership.read_text().splitlines() if membership.is_file() else ():
        number, controllers, path = line.split(":", 2)
        group = root / path.lstrip("/")
        while number == "0" and not controllers and group != root and root in group.parents:
            files.append(group / "memory.max")
            group = group.parent
    return files


def cell_bytes(file: GGUFFile, cache_type_k: str, cache_type_v: str) -> float:
    """Bytes that one token takes in the cells of all layers."""
    from runtime.models.hparams import read_hparams

    for flag, name in (("--cache-type-k", cache_type_k), ("--cache-type-v", cache_type_v)):
        if name not in BYTES_PER_VALUE:
            raise CommandError(f"{flag} is one of {', '.join(BYTES_PER_VALUE)}")
    hp = read_hparams(file)
    of_k, of_v = BYTES_PER_VALUE[cache_type_k], BYTES_PER_VALUE[cache_type_v]
    return sum(hp.n_head_kv[: hp.n_layers]) * (hp.head_dim * of_k + hp.v_dim * of_v)

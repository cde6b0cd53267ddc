"""How much memory serving a model file takes, from its header alone, and how much there may be."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slotmux.runtime.engine.config import MTP, SpecConfig
from slotmux.runtime.gguf import GGUFFile
from slotmux.server.commands.cgroups import cgroup_limit
from slotmux.server.commands.options import CommandError

if TYPE_CHECKING:
    from slotmux.runtime.sizes import ModelSizes

# The interpreter with its libraries, compiled kernels, buffers of a step.
BASE_BYTES = 200 * 10**6
MAX_AUTO_CELLS = 32_768  # long contexts cost memory: they are had by asking


@dataclass(frozen=True, slots=True)
class MemoryNeeded:
    """The budget of a server, in bytes."""

    n_slots: int
    n_ctx: int  # most tokens of one sequence
    n_cells: int
    n_checkpoints: int  # kept copies of recurrent state, of all slots together
    sizes: ModelSizes

    @property
    def weights_bytes(self) -> int:
        return self.sizes.weights

    @property
    def kv_bytes(self) -> int:
        return round(self.n_cells * self.sizes.cell)

    @property
    def state_bytes(self) -> int:
        """Recurrent state of the slots and of the checkpoints."""
        return (self.n_slots + self.n_checkpoints) * self.sizes.row

    @property
    def total_bytes(self) -> int:
        parts = (self.weights_bytes, self.kv_bytes, self.state_bytes, self.sizes.buffers)
        return sum(parts) + BASE_BYTES

    def describe(self) -> str:
        """The parts in a line."""
        parts = [f"{_mib(self.weights_bytes)} of weights"]
        slots = f"{self.n_slots} slots of up to {self.n_ctx} tokens"
        if self.kv_bytes:
            parts.append(f"{_mib(self.kv_bytes)} for {self.n_cells} KV cells ({slots})")
        if self.state_bytes:
            states = f"{_mib(self.state_bytes)} for the states of {self.n_slots} slots"
            parts.append(f"{states} and {self.n_checkpoints} checkpoints")
        return f"{', '.join(parts)}, {_mib(self.total_bytes)} in all"


def memory_needed(
    file: GGUFFile,
    n_slots: int,
    n_ctx: int,
    n_cells: int,
    cache_type_k: str,
    cache_type_v: str,
    *,
    n_ubatch: int = 512,
    isa: str = "auto",
    checkpoints: Checkpoints | None = None,
    spec: SpecConfig | None = None,
) -> MemoryNeeded:
    """What ``n_slots`` sequences of ``n_ctx`` tokens need with ``n_cells`` KV cells in all.

    0 cells: enough for all slots. 0 tokens: as many as the model was trained for, and then at most
    MAX_AUTO_CELLS of each. Raises CommandError for more tokens than that.
    """
    from slotmux.runtime.models.hparams import read_hparams

    n_ctx_train = read_hparams(file).n_ctx_train
    if n_ctx > n_ctx_train:
        raise CommandError(f"--ctx-size {n_ctx}: the model was trained for {n_ctx_train} tokens")
    if 0 < n_cells < n_ctx:
        raise CommandError(f"--kv-size {n_cells} does not hold one request of {n_ctx} tokens")
    if not n_ctx:
        n_ctx = min(n_ctx_train, n_cells or MAX_AUTO_CELLS)
        n_cells = n_cells or min(n_slots * n_ctx, MAX_AUTO_CELLS)
    sizes = _sizes(file, n_slots, n_ubatch, cache_type_k, cache_type_v, isa, spec or SpecConfig())
    return MemoryNeeded(
        n_slots=n_slots,
        n_ctx=n_ctx,
        n_cells=n_cells or n_slots * n_ctx,
        n_checkpoints=(checkpoints or Checkpoints()).of(n_slots, sizes.row),
        sizes=sizes,
    )


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """How many states of recurrent layers are kept for reuse."""

    per_slot: int = 8
    max_bytes: int = 1 << 30  # of all together: a large model's state may take 150 MB

    def of(self, n_slots: int, row_bytes: int) -> int:
        """For all slots together; 0 for a model without state."""
        return min(self.per_slot * n_slots, self.max_bytes // row_bytes) if row_bytes else 0


def _sizes(
    file: GGUFFile,
    n_slots: int,
    n_ubatch: int,
    cache_type_k: str,
    cache_type_v: str,
    isa: str,
    spec: SpecConfig,
) -> ModelSizes:
    from slotmux.kernels.cpu import detect_cpu
    from slotmux.kernels.ops.attention.cells import CELL_TYPES
    from slotmux.runtime.model import ModelConfig
    from slotmux.runtime.sizes import model_sizes

    for flag, name in (("--cache-type-k", cache_type_k), ("--cache-type-v", cache_type_v)):
        if name not in CELL_TYPES:
            raise CommandError(f"{flag} is one of {', '.join(CELL_TYPES)}")
    try:
        detect_cpu(isa)
    except ValueError as error:
        raise CommandError(str(error)) from error
    config = ModelConfig(
        n_slots=n_slots,
        n_ubatch=n_ubatch,
        cache_type_k=cache_type_k,
        cache_type_v=cache_type_v,
        isa=isa,
        max_drafts=spec.n_max,
        use_mtp=MTP in spec.types,
    )
    return model_sizes(file, config)


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.0f} MiB"


def check_fits(needed: MemoryNeeded, limit: int) -> None:
    """Raises CommandError, with what would fit, when more is needed than ``limit`` bytes."""
    if needed.total_bytes <= limit:
        return
    message = f"this needs {needed.describe()}; the limit is {_mib(limit)}"
    n_left = limit - (needed.total_bytes - needed.kv_bytes)
    cell = needed.sizes.cell
    n_ctx = int(n_left / cell / needed.n_slots) if cell else 0
    if n_ctx >= 16:
        message += (
            f"; --ctx-size {n_ctx} would fit, or fewer slots than --parallel {needed.n_slots}"
        )
    raise CommandError(message)


def memory_limit() -> int:
    """Bytes that this process may use: the machine's memory or its control groups' limit."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, cgroup_limit() or machine)

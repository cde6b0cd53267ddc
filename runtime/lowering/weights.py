"""A model file's tensors as kernels read them: matrices in panels, vectors as float32.

Every tensor is checked against the shape that the model's hyper-parameters demand before any
kernel sees it; at the end a tensor that nobody used is an error.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NoReturn

import numpy as np
from gguf.quants import dequantize
from numpy.typing import NDArray

from slotmux.kernels.formats import FORMATS, PANEL_ROWS, Format
from slotmux.kernels.formats.panels import Experts, FileRows, Panels
from slotmux.kernels.operands import Address
from slotmux.kernels.ops.dense.repack import Repack, build_repack
from slotmux.kernels.team import Program, Team, aligned_zeros
from slotmux.runtime.gguf import GGUFFile, ModelFileError, TensorInfo, drop_pages
from slotmux.runtime.lowering.buffers import round_up
from slotmux.runtime.lowering.panel_cache import PanelCache
from slotmux.runtime.numa import Placement

__all__ = ["Experts", "Panels", "Weights", "aligned_empty"]
ARENA_BYTES = 64 << 20
HUGE_PAGE = 2 << 20
_IN_BLOCK = re.compile(r"blk\.\d+\.")


def aligned_empty(n_bytes: int) -> NDArray[np.uint8]:
    """Bytes that are not touched, at a huge page's border when there are that many.

    NumPy asks for huge pages itself for arrays of 4 MiB and more.
    """
    alignment = HUGE_PAGE if n_bytes >= 2 * HUGE_PAGE else 64
    raw = np.empty(n_bytes + alignment, np.uint8)
    return raw[-raw.ctypes.data % alignment :][:n_bytes]


def _without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without 1s at its end: files leave them out or not."""
    kept = tuple(shape)
    while len(kept) > 1 and kept[-1] == 1:
        kept = kept[:-1]
    return kept


def _n_rows(tensor: TensorInfo) -> int:
    """Rows of a matrix; one of a single row may be stored with one dimension."""
    return tensor.shape[1] if len(tensor.shape) > 1 else 1


class Weights:
    """Places for the tensors of one file, given while the model is lowered; ``load`` fills them.

    Vectors are read at once. ``builds``: the kernels that ``load`` runs, by name.
    """

    def __init__(self, file: GGUFFile, cache: PanelCache | None = None) -> None:
        self.file = file
        self._cache = cache
        self._pieces: list[NDArray[np.uint8]] = []
        self.n_bytes = 0
        self.builds: dict[str, Callable[[], Callable[..., None]]] = {}
        self._pending: list[tuple[TensorInfo, Callable[[Team], None]]] = []
        self._used: set[str] = set()
        self._keep: list[NDArray[np.uint8]] = []
        self._vectors: dict[str, NDArray[np.float32]] = {}
        self._panels: dict[tuple[str, ...], Panels] = {}
        self._optional: dict[str, dict[str, bool]] = {}
        self._row_orders: dict[str, Sequence[int]] = {}
        self._step = np.zeros(1, np.int64)
        self._n_file_bytes = sum(tensor.n_bytes for tensor in file.tensors.values())
        self._arena: NDArray[np.uint8] = np.empty(0, np.uint8)

    def has(self, name: str) -> bool:
        """Whether the file has a tensor of this name."""
        return name in self.file.tensors

    def n_rows(self, name: str) -> int:
        """Rows of a matrix, where no key of the file says how many there are."""
        if name not in self.file.tensors:
            self.refuse(name, "this tensor is missing")
        return _n_rows(self.file.tensors[name])

    def optional(self, name: str) -> bool:
        """The same of a tensor that all blocks have, or none: see ``check_alike``."""
        has = self.has(name)
        self._optional.setdefault(_IN_BLOCK.sub("", name), {})[name] = has
        return has

    def check_alike(self) -> None:
        """Raise ModelFileError naming a tensor that one block lacks and another has."""
        for found in self._optional.values():
            missing = [name for name, has in found.items() if not has]
            if missing and len(missing) < len(found):
                self.refuse(missing[0], "this tensor is missing; other blocks have it")

    def refuse(self, name: str, reason: str) -> NoReturn:
        """Raise ModelFileError blaming the tensor ``name``."""
        tensor = self.file.tensors.get(name)
        offset = None if tensor is None else tensor.offset
        raise ModelFileError(name, offset, reason, self.file.paths[0])

    def _tensor(self, name: str, shape: tuple[int, ...]) -> TensorInfo:
        """The one place where a tensor's presence, shape and type are checked."""
        tensor = self.file.tensors.get(name)
        if tensor is None:
            self.refuse(name, "this tensor is missing")
        if _without_ones(tensor.shape) != _without_ones(shape):
            self.refuse(name, f"shape {list(tensor.shape)}, but {list(shape)} is needed")
        if tensor.type.name.lower() not in FORMATS:
            self.refuse(name, f"tensor type {tensor.type.name} is not supported")
        self._used.add(name)
        return tensor

    def vector(self, name: str, *shape: int) -> NDArray[np.float32]:
        """A small tensor as contiguous float32, in file order (last GGUF dimension first),
        padded by 16 floats that kernels may read but never use."""
        if name not in self._vectors:
            tensor = self._tensor(name, shape)
            # Float32 whatever the file has: vectors are small, and norms and scans want them exact.
            values = dequantize(tensor.data, tensor.type).astype(np.float32).reshape(-1)
            drop_pages(tensor.data)
            self._vectors[name] = self.constant(values).reshape(shape[::-1])
        return self._vectors[name]

    def constant(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Keep a computed array alive and padded like ``vector``."""
        memory = aligned_zeros(4 * (values.size + 16))
        self._keep.append(memory)
        self.n_bytes += memory.nbytes  # an encoder's table of positions has tens of MB
        array = memory.view(np.float32)[: values.size]
        array[:] = values.reshape(-1)
        return array

    def reorder(self, name: str, rows: Sequence[int]) -> None:
        """Have output i of a matrix that is yet to be taken be the file's row ``rows[i]``."""
        self._row_orders[name] = rows

    def can_join(self, *names: str) -> bool:
        """Whether matrices may stand in one run of panels: one type, whole panels each."""
        tensors = [self.file.tensors[name] for name in names if self.has(name)]
        return len({t.type for t in tensors}) == 1 and all(
            _n_rows(t) % PANEL_ROWS == 0 for t in tensors[:-1]
        )

    def table(self, name: str, n_in: int, n_rows: int) -> FileRows:
        """A matrix of which steps need a few rows: neither repacked nor read ahead."""
        tensor = self._tensor(name, (n_in, n_rows))
        self._keep.append(tensor.data)
        return FileRows(int(tensor.data.ctypes.data), self._format(tensor), n_in, tensor.row_bytes)

    def matrix(self, names: str | Sequence[str], n_in: int, n_out: Sequence[int] | int) -> Panels:
        """One matrix, or several of the same inputs and type stacked by rows."""
        names = (names,) if isinstance(names, str) else tuple(names)
        sizes = (n_out,) if isinstance(n_out, int) else tuple(n_out)
        if names in self._panels:
            return self._panels[names]
        tensors = [self._tensor(name, (n_in, n)) for name, n in zip(names, sizes, strict=True)]
        f = self._format(tensors[0])
        panels = Panels(0, f, n_in, sum(sizes))
        memory = self._memory(panels.n_bytes)
        panels = Panels(int(memory.ctypes.data), f, n_in, sum(sizes))
        at = panels.address
        for tensor, size in zip(tensors, sizes, strict=True):
            part = Panels(at, f, n_in, size)
            self._repack_later(tensor, [part])
            at += part.n_bytes
        self._panels[names] = panels
        return panels

    def stack(self, name: str, n_in: int, n_out: int, n: int) -> list[Panels]:
        """The ``n`` matrices of one tensor [n_in, n_out, n], apart."""
        all_ = self.experts([name], n_in, [n_out], n)
        return [
            Panels(all_.address + i * all_.expert_bytes, all_.format, n_in, n_out) for i in range(n)
        ]

    def experts(
        self, names: Sequence[str], n_in: int, n_out: Sequence[int], n_expert: int
    ) -> Experts:
        """Tensors [n_in, n_out, n_expert]; several are stacked by rows within each expert."""
        tensors = [
            self._tensor(name, (n_in, n, n_expert)) for name, n in zip(names, n_out, strict=True)
        ]
        f = self._format(tensors[0])
        panels = Experts(0, f, n_in, sum(n_out), n_expert)
        memory = self._memory(panels.n_bytes)
        panels = replace(panels, address=int(memory.ctypes.data))
        # An expert's gate and up lie together: it is chosen as a whole.
        at = panels.address
        for tensor, n in zip(tensors, n_out, strict=True):
            self._repack_experts(tensor, panels, at, n)
            at += -(-n // PANEL_ROWS) * f.panel_bytes(n_in)
        return panels

    def _repack_experts(self, tensor: TensorInfo, panels: Experts, at: int, n_rows: int) -> None:
        """Repack each expert's rows to its own panels, later."""
        each = [
            Panels(at + expert * panels.expert_bytes, panels.format, panels.n_in, n_rows)
            for expert in range(panels.n_expert)
        ]
        self._repack_later(tensor, each)

    def _memory(self, n_bytes: int) -> NDArray[np.uint8]:
        """Aligned memory, not touched yet: the threads that repack do that.

        Cut from large pieces, which the system backs with huge pages: fewer address translations
        on the way of a stream of weights, also across many small tensors.
        """
        n_padded = round_up(n_bytes, 64)
        if n_padded > self._arena.nbytes:
            size = max(n_padded, min(ARENA_BYTES, round_up(self._n_file_bytes, 64)))
            self._arena = aligned_empty(size)
            self._keep.append(self._arena)
        memory, self._arena = self._arena[:n_bytes], self._arena[n_padded:]
        return self._piece(memory)

    def _piece(self, memory: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self._pieces.append(memory)
        self.n_bytes += memory.nbytes
        return memory

    def _format(self, tensor: TensorInfo) -> Format:
        f: Format = FORMATS[tensor.type.name.lower()]
        if tensor.shape[0] % f.block_inputs:
            reason = f"{tensor.shape[0]} inputs, {tensor.type.name} needs pairs of them"
            self.refuse(tensor.name, reason)
        return f

    def _repack_later(self, tensor: TensorInfo, parts: Sequence[Panels]) -> None:
        """Have the tensor's rows, from the first on, be repacked to one part after the other."""
        f = parts[0].format
        name = Repack(source=Address(0), row_bytes=tensor.row_bytes, panels=parts[0]).kernel
        self.builds[name] = lambda: build_repack(f.name)
        order = self._row_orders.get(tensor.name)

        def repack(team: Team) -> None:
            source = np.ascontiguousarray(tensor.data).reshape(-1)
            if order is not None:
                assert sorted(order) == list(range(tensor.shape[1]))
                # Whole rows move, so that it is the same for every quantised type.
                rows = source.view(np.uint8).reshape(tensor.shape[1], -1)
                source = rows[np.array(order)].reshape(-1)
            kernel = team.kernels.address(name, self.builds[name])
            at, ops = int(source.ctypes.data), []
            for part in parts:
                op = Repack(source=Address(at), row_bytes=tensor.row_bytes, panels=part)
                ops.append((kernel, op.words(), -1))
                at += part.n_out * tensor.row_bytes
            team.run(Program(team, self._step, ops))
            drop_pages(tensor.data)

        self._pending.append((tensor, repack))

    def place(self, placement: Placement) -> None:
        """Before ``load``: a matrix's panels where the threads are that own them. An expert's
        belong to whoever comes, as do all others' in turn: they are spread."""
        shared = {panels.address for panels in self._panels.values()}
        for piece in self._pieces:
            address = int(piece.ctypes.data)
            (placement.share if address in shared else placement.spread)(address, piece.nbytes)

    def load(self, team: Team, progress: Callable[[float], None]) -> None:
        """Repack everything that was asked for; ``progress`` hears the share done so far."""
        # In the order of lowering, which the cache's key stands for: pieces need no names.
        if self._cache is not None and self._cache.read(self._pieces, progress):
            self._pending.clear()
            progress(1.0)
            return
        n_bytes = max(1, sum(tensor.n_bytes for tensor, _ in self._pending))
        n_done = 0
        for tensor, repack in self._pending:
            repack(team)
            n_done += tensor.n_bytes
            progress(n_done / n_bytes)
        self._pending.clear()
        if self._cache is not None:
            self._cache.write(self._pieces)

    def skip(self, pattern: str) -> list[str]:
        """Mark tensors as deliberately unused; returns their names."""
        names = [n for n in self.file.tensors if fnmatch.fnmatchcase(n, pattern)]
        self._used.update(names)
        return names

    def check_all_used(self) -> None:
        """Raise ModelFileError naming a tensor that the model did not use."""
        unused = self.unused()
        if unused:
            more = f" (nor have {len(unused) - 1} more)" if len(unused) > 1 else ""
            reason = f"this tensor has no use in a {self.file.architecture} model{more}"
            self.refuse(unused[0], reason)

    def unused(self, prefix: str = "") -> list[str]:
        """Tensors that the model did not use, whose names begin with ``prefix``."""
        names = [name for name in self.file.tensors if name not in self._used]
        return [name for name in names if name.startswith(prefix)]

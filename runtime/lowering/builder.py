"""Builds a model's program: each method appends the ops of one building block.

Names of blocks follow the model card: rms_norm, linear, attention. What an op reads and writes it
declares itself (slotmux.kernels.operands); passes/ decides what follows from that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.compiler import KernelCache
from slotmux.kernels.formats.panels import Panels
from slotmux.kernels.operands import STEP, Address, Count, Op, Rows, Vector
from slotmux.kernels.ops.dense.bias import AddBias
from slotmux.kernels.ops.dense.glu import Glu
from slotmux.kernels.ops.dense.linear import Linear
from slotmux.kernels.ops.dense.norm import RmsNorm
from slotmux.kernels.ops.dense.repack import Embed
from slotmux.kernels.team import Program, Team
from slotmux.runtime.lowering.buffers import Buffers, step_count
from slotmux.runtime.lowering.cells import KVCells
from slotmux.runtime.lowering.passes.forms import choose_forms
from slotmux.runtime.lowering.passes.gated import fuse_gated
from slotmux.runtime.lowering.passes.repeats import drop_repeats
from slotmux.runtime.lowering.passes.waits import derive_waits
from slotmux.runtime.lowering.rows import StateRows
from slotmux.runtime.lowering.weights import Weights


class Builder:
    """Collects the ops of one program. ``step``: the int64 words of STEP that ops read.

    Ops are appended, each to the ``part`` of the program that is being built; then ``finish`` runs
    the passes. Before, an op's fields may still change, and ``ops`` lacks those that passes add.
    """

    def __init__(
        self,
        kernels: KernelCache,
        n_threads: int,
        weights: Weights,
        buffers: Buffers,
        cells: KVCells,
        rows: StateRows,
        step: NDArray[np.int64],
        n_ctx: int,
        n_slots: int,
    ) -> None:
        self.kernels, self.n_threads = kernels, n_threads
        self.weights, self.buffers = weights, buffers
        self.cells, self.rows = cells, rows
        self.step, self.n_ctx, self.n_slots = step, n_ctx, n_slots
        self.ops: list[Op] = []
        self._part, self._kept, self._is_finished = "", set[str](), False
        self._operands: dict[Op, tuple[int, NDArray[np.int64]]] = {}

    def beside(self, buffers: Buffers, step: NDArray[np.int64]) -> Builder:
        """A builder of another program over the same weights and sequences."""
        return Builder(
            self.kernels, self.n_threads, self.weights, buffers, self.cells, self.rows, step,
            self.n_ctx, self.n_slots,
        )  # fmt: skip

    def append(self, op: Op) -> None:
        """Add an op behind all others."""
        assert not self._is_finished
        state = op.state_field()
        if state is not None:
            setattr(op, state, self.rows.reserve(op.state_floats, op.pending_floats))
        op.part = self._part
        self.ops.append(op)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Ops that are appended meanwhile belong to a part of the program that can run alone."""
        before, self._part = self._part, name
        yield
        self._part = before

    def keep(self, rows: Rows) -> Rows:
        """Have these rows written as floats though no later op reads them so."""
        self._kept.add(rows.buffer)
        return rows

    def step_address(self, word: str) -> Address:
        """What a word of the step holds: the address of one of the ubatch's tables."""
        return Address(int(self.step[getattr(STEP, word) // 8]))

    def outputs(self, most: int) -> Count:
        """How many rows of logits the step wants."""
        return step_count(self.step, "n_outputs", most)

    # -- building blocks ------------------------------------------------------------------

    def embed(
        self, table: Panels, scale: float = 1.0, name: str = "x",
        instead: NDArray[np.int32] | None = None,
    ) -> Rows:  # fmt: skip
        """Rows of the embedding for the step's tokens, or for those that tokens are read as: the
        residual stream."""
        x = self.buffers.rows(name, table.n_in)
        self.append(Embed(panels=table, scale=scale, instead=instead, out=x))
        return x

    def rms_norm(self, x: Rows, weight: Vector | None, eps: float, name: str = "norm") -> Rows:
        """x / rms(x) * weight"""
        out = self.buffers.rows(name, x.width, x.n_rows)
        self.append(RmsNorm(x=x, n_rows=x.n_rows, weight=weight, eps=eps, out=out))
        return out

    def rms_norm_outputs(self, x: Rows, weight: Vector, eps: float, most: int) -> Rows:
        """The same of the rows alone that get logits, at most ``most``."""
        out = self.buffers.rows("output_norm", x.width, self.outputs(most))
        index, n_rows = self.step_address("out_tokens"), out.n_rows
        self.append(RmsNorm(x=x, index=index, n_rows=n_rows, weight=weight, eps=eps, out=out))
        return out

    def rms_norm_to(
        self, x: Rows, weight: Vector, eps: float, to: Rows, *, add: bool = False
    ) -> None:
        """to = x / rms(x) * weight, or to += that."""
        self.append(RmsNorm(x=x, n_rows=x.n_rows, weight=weight, eps=eps, out=to, add=add))

    def add_bias(self, x: Rows, bias: Vector) -> None:
        """x += bias, in place."""
        self.append(AddBias(x=x, bias=bias))

    def linear(self, x: Rows, weight: Panels, out: Rows | str, add: bool = False) -> Rows:
        """x W^T into ``out`` (rows, or the name of a buffer); ``add``: onto what is there."""
        assert x.width == weight.n_in, f"{x.width} inputs, weight takes {weight.n_in}"
        if isinstance(out, str):
            out = self.buffers.rows(out, weight.n_out, x.n_rows)
        self.append(Linear(w=weight, x=x, out=out, add=add))
        return out

    def linears(self, x: Rows, names: Sequence[str], sizes: Sequence[int], out: str) -> list[Rows]:
        """Several matrices of the same input side by side in one buffer; one op if they can
        stand in one run of panels. Each part starts at a multiple of 16 columns."""
        # As the outputs of joined panels lie, so that readers need not know which way it was.
        starts = np.cumsum([0, *(-(-n // 16) * 16 for n in sizes)])
        rows = self.buffers.rows(out, int(starts[-1]))
        if self.weights.can_join(*names):
            self.linear(x, self.weights.matrix(names, x.width, sizes), rows)
        else:
            for name, size, start in zip(names, sizes, starts, strict=False):
                part = rows.columns(int(start), size)
                self.linear(x, self.weights.matrix(name, x.width, size), part)
        return [rows.columns(int(start), size) for size, start in zip(sizes, starts, strict=False)]

    def glu(self, activation: str, up: Rows, gate: Rows | None, name: str = "glu") -> Rows:
        """act(gate) * up, or act(up) without a gate."""
        out = self.buffers.rows(name, up.width, up.n_rows)
        self.append(Glu(activation=activation, gate=gate, up=up, out=out))
        return out

    # -- the program ----------------------------------------------------------------------

    def finish(self) -> None:
        """Run the passes, once."""
        if not self._is_finished:
            isa = self.kernels.cpu.isa
            self.ops = choose_forms(drop_repeats(self.ops), self.buffers, isa, self._kept)
            self.ops = fuse_gated(self.ops, isa)
            self._is_finished = True

    def ops_of(self, *parts: str) -> list[Op]:
        """The ops of some parts, in their order."""
        return [op for part in parts for op in self.ops if op.part == part]

    @property
    def scratch_bytes(self) -> int:
        """Working memory that a thread needs for any of the ops."""
        return max((op.scratch_bytes(self.kernels.cpu.isa) for op in self.ops), default=0)

    @property
    def builds(self) -> dict[str, Callable[[], Callable[..., None]]]:
        """The kernels of the program, by name."""
        return {op.kernel: op.builder(self.kernels.cpu.isa) for op in self.ops}

    def program(self, team: Team, ops: Sequence[Op] | None = None) -> Program:
        """The ops (default: all of this builder's) with the waits between them; compiles what is
        not compiled yet."""
        self.finish()
        self.rows.make()
        ops = self.ops if ops is None else ops
        entries = [
            (*self._compiled(team.kernels, op), wait)
            for op, wait in zip(ops, derive_waits(ops), strict=True)
        ]
        return Program(team, self.step, entries)

    def _compiled(self, kernels: KernelCache, op: Op) -> tuple[int, NDArray[np.int64]]:
        """Address of the kernel, and its operands: the same in every program that has the op."""
        if op not in self._operands:
            address = kernels.address(op.kernel, op.builder(kernels.cpu.isa))
            self._operands[op] = address, op.words()
        return self._operands[op]

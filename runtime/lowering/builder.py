"""Builds a model's program: each method appends the ops of one building block.

Ops are listed with what they read and write; where an op needs what others write, the builder
puts a wait. Attribute-like names of blocks follow the model card: rms_norm, linear, attention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.compiler import KernelCache
from slotmux.kernels.cpu import Isa
from slotmux.kernels.float_tile import rounds_rows
from slotmux.kernels.formats import Format
from slotmux.kernels.operands import STEP, fill
from slotmux.kernels.ops.dense.bias import ADD_BIAS, build_add_bias
from slotmux.kernels.ops.dense.gated import MOST_UNGATED
from slotmux.kernels.ops.dense.glu import GLU, build_glu
from slotmux.kernels.ops.dense.glu import SCRATCH_BYTES as GLU_SCRATCH
from slotmux.kernels.ops.dense.linear import ANY_ROWS, LINEAR, build_linear
from slotmux.kernels.ops.dense.linear import scratch_bytes as linear_scratch_bytes
from slotmux.kernels.ops.dense.narrow import NARROW, build_narrow
from slotmux.kernels.ops.dense.norm import RMS_NORM, build_rms_norm
from slotmux.kernels.ops.dense.norm import SCRATCH_BYTES as NORM_SCRATCH
from slotmux.kernels.ops.dense.quantize import QUANTIZE, build_quantize
from slotmux.kernels.ops.dense.repack import EMBED, build_embed, embed_scratch_bytes
from slotmux.kernels.team import Program, Team
from slotmux.runtime.lowering.buffers import Buffers, Rows, Span, round_up
from slotmux.runtime.lowering.cells import KVCells
from slotmux.runtime.lowering.gated import gate_many_rows
from slotmux.runtime.lowering.ops import Layout, Op, derive_waits
from slotmux.runtime.lowering.rows import StateRows
from slotmux.runtime.lowering.weights import Panels, Weights


class Builder:
    """Collects the ops of one program. ``step``: the int64 words of STEP that ops read."""

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
        self._constants: dict[float, NDArray[np.float32]] = {}

    def beside(self, buffers: Buffers, step: NDArray[np.int64]) -> Builder:
        """A builder of another program over the same weights and sequences."""
        return Builder(
            self.kernels, self.n_threads, self.weights, buffers, self.cells, self.rows, step,
            self.n_ctx, self.n_slots,
        )  # fmt: skip

    def append(
        self,
        kernel: str,
        build: Callable[[], Callable[..., None]],
        layout: Layout,
        operands: dict[str, int | NDArray[Any]],
        reads: Sequence[Span],
        writes: Sequence[Span],
        scratch: int = 0,
    ) -> Op:
        """Add an op. ``kernel`` names the compiled code (see KernelCache.address); ``scratch``:
        bytes of working memory that a thread needs for it."""
        op = Op(kernel, build, layout, operands, list(reads), list(writes), scratch)
        self.ops.append(op)
        return op

    def append_recurrent(
        self,
        kernel: str,
        build: Callable[[], Callable[..., None]],
        layout: Layout,
        operands: dict[str, int | NDArray[Any]],
        reads: Sequence[Span],
        writes: Sequence[Span],
        n_state: int,
        n_pending: int,
        scratch: int = 0,
    ) -> Op:
        """Add an op with ``n_state`` float32 of recurrent state a sequence, and ``n_pending`` that
        it keeps of each draft.

        Its layout has the words ``rows`` (address of this op's state in row 0), ``row_stride``
        (bytes from a row to the next) and ``pending`` (bytes from the state to what is kept of
        drafts); the kernel finds a sequence's row by STEP.state_row.
        """
        offset, pending = self.rows.reserve(n_state, n_pending)
        own = {**operands, "rows": offset, "row_stride": 0, "pending": pending}
        state = Span("rows", offset, offset + 4 * n_state)
        op = self.append(kernel, build, layout, own, [*reads, state], [*writes, state], scratch)
        op.has_state = True
        return op

    def _complete_state(self) -> None:
        """Tell the ops where the rows are."""
        if not any(op.has_state for op in self.ops):
            return
        address, stride = self.rows.memory
        for op in self.ops:
            if op.has_state:
                op.operands["rows"] = int(op.operands["rows"]) + address
                op.operands["row_stride"] = stride
                op.has_state = False

    def scalar(self, value: float) -> NDArray[np.float32]:
        """A float32 constant that kernels read by address."""
        # By address, not within the compiled code: a kernel serves every model as it is.
        if value not in self._constants:
            self._constants[value] = self.weights.constant(np.array([value], np.float32))
        return self._constants[value]

    def step_address(self, word: str) -> int:
        """What a word of the step holds: the address of one of the ubatch's tables."""
        return int(self.step[getattr(STEP, word) // 8])

    def count(self, word: str) -> int:
        """Address of a word of the step, such as n_tokens."""
        return int(self.step.ctypes.data) + int(getattr(STEP, word))

    # -- building blocks ------------------------------------------------------------------

    def embed(self, table: Panels, scale: float = 1.0, name: str = "x") -> Rows:
        """Rows of the embedding for the step's tokens: the residual stream."""
        x = self.buffers.rows(name, table.n_in)
        self.append(
            f"embed.{table.format.name}",
            lambda: build_embed(table.format.name),
            EMBED,
            {
                "panels": table.address,
                "n_inputs": table.n_in,
                "scale": self.scalar(scale),
                "out": x.address,
                "out_stride": x.stride,
            },
            [Span("step")],
            [x.span],
            embed_scratch_bytes(table.format),
        )
        return x

    def rms_norm(
        self,
        x: Rows,
        weight: NDArray[np.float32] | None,
        eps: float,
        name: str = "norm",
        index: int = 0,
        n_rows: str = "n_tokens",
        capacity: int = 0,
    ) -> Rows:
        """x / rms(x) * weight. ``index``: address of row numbers to take (output rows)."""
        # "out" and "tiles" stay 0, not written, until a consumer asks: see producer.
        out = self.buffers.rows(name, x.width, capacity)
        op = self.append(
            "rms_norm",
            build_rms_norm,
            RMS_NORM,
            {
                "x": x.address,
                "x_stride": x.stride,
                "index": index,
                "n_rows": self.count(n_rows),
                "n": x.width,
                "weight": 0 if weight is None else weight,
                "eps": self.scalar(eps),
                "out": 0,
                "out_stride": out.stride,
                "tiles": 0,
                "add": 0,
            },
            [x.span],
            [out.span, out.tiles_span],
            NORM_SCRATCH,
        )
        return self.producer(out, op, capacity)

    def rms_norm_to(
        self, x: Rows, weight: NDArray[np.float32], eps: float, to: Rows, *, add: bool = False
    ) -> None:
        """to = x / rms(x) * weight, or to += that."""
        self.rms_norm(x, weight, eps, "unused")
        op = self.ops[-1]
        op.operands.update(out=to.address, out_stride=to.stride, add=int(add))
        op.writes = [to.span]

    def add_bias(self, x: Rows, bias: NDArray[np.float32], n_rows: str = "n_tokens") -> None:
        """x += bias, in place."""
        self.append(
            "add_bias",
            build_add_bias,
            ADD_BIAS,
            {
                "x": x.address,
                "stride": x.stride,
                "n": x.width,
                "n_rows": self.count(n_rows),
                "bias": bias,
            },
            [x.span],
            [x.span],
        )

    def producer(self, out: Rows, op: Op, capacity: int = 0) -> Rows:
        """Let the consumers of ``out`` choose which forms ``op`` writes."""

        def want_tiles() -> int:
            op.operands["tiles"] = self.buffers.tiles(out.buffer, out.width, capacity)
            return int(op.operands["tiles"])

        def want_floats() -> None:
            if "out" in op.operands:
                op.operands["out"] = out.address

        out.want_tiles, out.want_floats = want_tiles, want_floats
        return out

    def quantize(self, x: Rows) -> int:
        """Address of x as 8-bit tiles, made by an op of its own if its producer cannot."""
        tiles = x.tiles()
        if tiles:
            return tiles
        tiles = self.buffers.tiles(f"{x.buffer}@{x.start}", x.width)
        self.append(
            "quantize",
            build_quantize,
            QUANTIZE,
            {
                "x": x.address,
                "stride": x.stride,
                "n": x.width,
                "n_rows": self.count("n_tokens"),
                "tiles": tiles,
            },
            [x.span],
            [x.tiles_span],
        )
        x._tiles = tiles
        return tiles

    def narrow(self, x: Rows, n_rows: str = "n_tokens", capacity: int = 0) -> Rows:
        """x rounded to BF16: an op of its own makes it, once."""
        if x._bf16 is None:
            x._bf16 = self.append_narrow(x, self.count(n_rows), capacity, [])
        return x._bf16

    def append_narrow(self, x: Rows, n_rows: int, capacity: int, reads: Sequence[Span]) -> Rows:
        """The op that rounds as many rows as stand at the address ``n_rows``. With ``takes_bf16``
        two columns stand in a float's place."""
        isa = self.kernels.cpu.isa
        width = round_up(x.width, 32) // 2 if isa is Isa.AVX512_BF16 else x.width
        out = self.buffers.rows(f"{x.buffer}@{x.start}:bf16", width, capacity)
        self.append(
            "narrow",
            lambda: build_narrow(isa),
            NARROW,
            {
                "x": x.floats().address,
                "stride": x.stride,
                "n": x.width,
                "n_rows": n_rows,
                "out": out.address,
                "out_stride": out.stride,
            },
            [x.span, *reads],
            [out.span],
        )
        return out

    def activations(
        self, x: Rows, f: Format, n_rows: str = "n_tokens", capacity: int = 0
    ) -> tuple[int, int, Span]:
        """x as products with a weight of this format take it: address, bytes from a row to the
        next (of rows, not of tiles), and what is read."""
        if f.is_quantised:
            return self.quantize(x), x.stride, x.tiles_span
        rows = self.narrow(x, n_rows, capacity) if rounds_rows(f) else x.floats()
        return rows.address, rows.stride, rows.span

    def linear(
        self,
        x: Rows,
        weight: Panels,
        out: Rows | str,
        n_rows: str = "n_tokens",
        capacity: int = 0,
        add: bool = False,
    ) -> Rows:
        """x W^T into ``out`` (rows, or the name of a buffer); ``add``: onto what is there."""
        assert x.width == weight.n_in, f"{x.width} inputs, weight takes {weight.n_in}"
        if isinstance(out, str):
            out = self.buffers.rows(out, weight.n_out, capacity)
        f, isa = weight.format, self.kernels.cpu.isa
        source, x_stride, read = self.activations(x, f, n_rows, capacity)
        self.append(
            f"linear.{f.name}",
            lambda: build_linear(isa, f.name),
            LINEAR,
            {
                "w": weight.address,
                "x": source,
                "out": out.address,
                "n_rows": self.count(n_rows),
                "n_panels": weight.n_panels,
                "n_blocks": weight.n_blocks,
                "x_stride": x_stride,
                "out_stride": out.stride,
                "accumulate": int(add),
                "most_rows": ANY_ROWS,
            },
            [read, *([out.span] if add else [])],
            [out.span],
            linear_scratch_bytes(isa, f, weight.n_blocks),
        )
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

    def glu(
        self, activation: str, up: Rows, gate: Rows | None, name: str = "glu", capacity: int = 0
    ) -> Rows:
        """act(gate) * up, or act(up) without a gate."""
        out = self.buffers.rows(name, up.width, capacity)
        op = self.append(
            f"glu.{activation}",
            lambda: build_glu(activation),
            GLU,
            {
                "gate": gate.address if gate else 0,
                "up": up.address,
                "stride": up.stride,
                "n": up.width,
                "n_rows": self.count("n_tokens"),
                "out": 0,
                "out_stride": out.stride,
                "tiles": 0,
                "most_rows": ANY_ROWS,
            },
            [up.span, *([gate.span] if gate else [])],
            [out.span, out.tiles_span],
            GLU_SCRATCH,
        )
        self.producer(out, op, capacity)
        # Few rows are faster with the ops apart, many with one for all: both are in the program,
        # and each does nothing at a step whose number of rows is the other's.
        if gate and self.buffers.n_rows > MOST_UNGATED:
            gate_many_rows(self.ops, self.kernels.cpu.isa, activation, out)
        return out

    # -- the program ----------------------------------------------------------------------

    @property
    def scratch_bytes(self) -> int:
        """Working memory that a thread needs for any of the ops."""
        return max((op.scratch for op in self.ops), default=0)

    @property
    def builds(self) -> dict[str, Callable[[], Callable[..., None]]]:
        """The kernels of the program, by name."""
        return {op.kernel: op.build for op in self.ops}

    def program(self, team: Team, ops: Sequence[Op] | None = None) -> Program:
        """The ops (default: all of this builder's) with the waits between them; compiles what is
        not compiled yet."""
        self._complete_state()
        kernels, ops = team.kernels, self.ops if ops is None else ops
        return Program(
            team,
            self.step,
            [
                (kernels.address(op.kernel, op.build), fill(op.layout, **op.operands), wait)
                for op, wait in zip(ops, derive_waits(ops), strict=True)
            ],
        )

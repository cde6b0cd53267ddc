"""Any quantised format with its codes as bytes and its scales as float32, in working memory.

With many rows a panel is decoded once and multiplied from there, where decoding it for every 8
rows would take longer than the product itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from slotmux.kernels.address import I64, pointer
from slotmux.kernels.cpu import Isa
from slotmux.kernels.dot import I8X64
from slotmux.kernels.formats.base import QUANT_BLOCK, Decoder, Format, SubBlock, load_vector
from slotmux.kernels.simd import F32X16

_CODES = 512  # bytes; behind them 64 a scale, then 64 a minimum


@dataclass(frozen=True, slots=True)
class _UnpackedDecoder(Decoder):
    """Reads what ``make_unpack`` wrote."""

    n_parts: int
    has_minimum: bool

    def head(self, b: Any, block: Any) -> Any:
        """Nothing: a block is one sub-block."""

    def sub_block(self, b: Any, isa: Isa, block: Any, head: Any, index: Any) -> SubBlock:
        """See Decoder."""

        def codes() -> Iterator[Any]:
            for j in range(8):
                yield load_vector(b, block, 64 * j, I8X64)

        def floats(first: int) -> list[Any]:
            at = [_CODES + 64 * (first + part) for part in range(self.n_parts)]
            return [load_vector(b, block, offset, F32X16) for offset in at]

        return SubBlock(
            codes(), lambda: (floats(0), floats(self.n_parts) if self.has_minimum else [])
        )


def unpacked(f: Format) -> Format:
    """What a format is in working memory; its ``pack`` is not to be used."""
    n_floats = f.n_parts * (2 if f.has_minimum else 1)
    return replace(
        f,
        name=f"{f.name}.unpacked",
        block_inputs=QUANT_BLOCK,
        block_bytes=_CODES + 64 * n_floats,
        is_light=True,
        decoder=_UnpackedDecoder(f.n_parts, f.has_minimum),
    )


def make_unpack(isa: Isa, f: Format) -> Any:
    """An intrinsic (w, n_blocks, to): decode blocks of panels to ``unpacked`` ones."""
    decoder, to_bytes = f.decoder, unpacked(f).block_bytes
    assert decoder is not None

    def write(b: Any, sub: SubBlock, to: Any) -> None:
        for j, codes in enumerate(sub.codes):
            b.store(codes, pointer(b, to, 64 * j)).align = 1
        scales, minima = sub.scales()
        for i, vector in enumerate([*scales, *minima]):
            b.store(vector, pointer(b, to, _CODES + 64 * i)).align = 1

    @intrinsic
    def unpack(ctx, w, n_blocks, to):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            w, n_blocks, to = args
            with cgutils.for_range(b, n_blocks, intp=I64) as loop:
                block = b.add(w, b.mul(loop.index, ir.Constant(I64, f.block_bytes)))
                head = decoder.head(b, block)
                first = b.add(to, b.mul(loop.index, ir.Constant(I64, f.n_sub_blocks * to_bytes)))
                with cgutils.for_range(b, ir.Constant(I64, f.n_sub_blocks), intp=I64) as subs:
                    at = b.add(first, b.mul(subs.index, ir.Constant(I64, to_bytes)))
                    write(b, decoder.sub_block(b, isa, block, head, subs.index), at)
            return c.get_dummy_value()

        return types.void(*[types.int64] * 3), codegen

    return unpack

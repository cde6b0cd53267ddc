"""What a weight format is: how a panel block is laid out, decoded to vectors, and packed.

A panel is 16 output rows, block by block along the inputs. A quantised block is one or more
sub-blocks of 32 inputs. Decoding a sub-block gives 8 code vectors (16 rows x 4 inputs, unsigned
bytes), and for the whole or for each half of it the rows' scales, and minima where there are any:
    weight = scale * (code - offset)          or          scale * code + minimum
A float panel has, for each input, 16 values of the file's own type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from llvmlite import ir

from slotmux.kernels.address import F16, I8, I16, pointer
from slotmux.kernels.cpu import Isa
from slotmux.kernels.simd import F32X16, I32X16

PANEL_ROWS = 16
QUANT_BLOCK = 32  # inputs in a sub-block; activations have their scales in the same blocks
I8X16 = ir.VectorType(I8, 16)
I16X16 = ir.VectorType(I16, 16)


@dataclass(slots=True)
class SubBlock:
    """32 inputs of a panel block, decoded while the code that uses it is emitted.

    ``codes`` yields the 8 vectors in ascending order of inputs; ``scales`` returns (scales,
    minima): one float vector a part, no minima where the format has none.
    """

    codes: Iterator[Any]
    scales: Callable[[], tuple[list[Any], list[Any]]]


class Decoder(Protocol):
    """Emits the instructions that read a quantised block."""

    def head(self, b: Any, block: Any) -> Any:
        """What all sub-blocks share, loaded once."""

    def sub_block(self, b: Any, isa: Isa, block: Any, head: Any, index: Any) -> SubBlock:
        """Sub-block ``index`` (an LLVM value)."""


@dataclass(frozen=True, slots=True)
class Format:
    """How one panel block is laid out. ``name`` is also the ggml type's name in lower case."""

    name: str
    file_block: int  # inputs in a block of the file
    file_block_bytes: int
    block_inputs: int  # inputs in a block of the panel
    block_bytes: int
    bits: int  # of a code; 0 = float panel
    offset: int = 0  # what codes are shifted by to be unsigned
    has_minimum: bool = False
    n_parts: int = 1  # scales in a sub-block
    max_code: int = 255
    is_light: bool = False  # decoding takes few instructions: it may be done for every 4 rows
    decoder: Decoder | None = None
    # Numba function (source block of the file, zeroed block of the panel, row) that fills in a row
    pack: Any = None

    @property
    def is_quantised(self) -> bool:
        """Whether products take 8-bit activations."""
        return self.bits > 0

    @property
    def n_sub_blocks(self) -> int:
        """Sub-blocks in a quantised block."""
        return self.block_inputs // QUANT_BLOCK

    def panel_bytes(self, n_inputs: int) -> int:
        """Size of a panel."""
        return n_inputs // self.block_inputs * self.block_bytes


def load_vector(b: Any, base: Any, offset: int | Any, vector_type: Any) -> Any:
    """An unaligned vector at ``base + offset`` bytes."""
    value = b.load(pointer(b, base, offset), typ=vector_type)
    value.align = 1
    return value


def half_vector(b: Any, base: Any, offset: int) -> Any:
    """16 float16 widened to float32."""
    return b.fpext(load_vector(b, base, offset, ir.VectorType(F16, 16)), F32X16)


def unsigned_bytes(b: Any, base: Any, offset: int | Any) -> Any:
    """16 bytes as int32."""
    return b.zext(load_vector(b, base, offset, I8X16), I32X16)


def const(value: int, vector_type: Any = I32X16) -> Any:
    """A whole number in all lanes."""
    return ir.Constant(vector_type, [value] * vector_type.count)

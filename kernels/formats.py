"""Weight formats as panels: 16 output rows, block by block along the inputs.

A quantised block covers 32 inputs: code vectors of 64 bytes (16 rows x 4 inputs, unsigned; two
4-bit codes to a byte where codes fit in 4 bits), then the rows' scales and minima as f16.
    weight = scale * (code - offset)          or          scale * code + minimum
A float panel has, for each input, 16 values of the file's own type. Codes, scales and values are
the file's: repacking changes their places only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from kernels.address import F16, I16, pointer
from kernels.dot import I8X64
from kernels.simd import F32X16, I32X16

PANEL_ROWS = 16
QUANT_BLOCK = 32


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

    @property
    def is_quantised(self) -> bool:
        """Whether products take 8-bit activations."""
        return self.bits > 0

    def panel_bytes(self, n_inputs: int) -> int:
        """Size of a panel."""
        return n_inputs // self.block_inputs * self.block_bytes


FORMATS = {
    f.name: f
    for f in (
        Format("q4_0", 32, 18, 32, 288, bits=4, offset=8),
        Format("q4_1", 32, 20, 32, 320, bits=4, has_minimum=True),
        Format("q8_0", 32, 34, 32, 544, bits=8, offset=128),
        Format("f32", 1, 4, 1, 64, bits=0),
        Format("f16", 1, 2, 1, 32, bits=0),
        Format("bf16", 1, 2, 1, 32, bits=0),
    )
}


def load_vector(b: Any, base: Any, offset: int, vector_type: Any) -> Any:
    """An unaligned vector at ``base + offset`` bytes."""
    value = b.load(pointer(b, base, offset), typ=vector_type)
    value.align = 1
    return value


def code_vectors(b: Any, f: Format, block: Any) -> Any:
    """The 8 code vectors of a quantised block, one by one, each loaded when it is needed."""
    if f.bits == 8:
        for j in range(8):
            yield load_vector(b, block, 64 * j, I8X64)
        return
    mask = ir.Constant(I8X64, [15] * 64)
    i16x32 = ir.VectorType(I16, 32)
    for j in range(4):
        both = load_vector(b, block, 64 * j, I8X64)
        yield b.and_(both, mask)
        shifted = b.lshr(b.bitcast(both, i16x32), ir.Constant(i16x32, [4] * 32))
        yield b.and_(b.bitcast(shifted, I8X64), mask)


def half_vector(b: Any, base: Any, offset: int) -> Any:
    """16 float16 widened to float32."""
    return b.fpext(load_vector(b, base, offset, ir.VectorType(F16, 16)), F32X16)


def scales(b: Any, f: Format, block: Any) -> tuple[Any, Any]:
    """Scale and minimum vectors (None without) of a quantised block."""
    at = 64 * f.bits
    return half_vector(b, block, at), half_vector(b, block, at + 32) if f.has_minimum else None


def float_vector(b: Any, f: Format, at: Any) -> Any:
    """The 16 weights of one input of a float panel, as float32."""
    if f.name == "f32":
        return load_vector(b, at, 0, F32X16)
    if f.name == "f16":
        return half_vector(b, at, 0)
    bits = b.zext(load_vector(b, at, 0, ir.VectorType(I16, 16)), I32X16)
    return b.bitcast(b.shl(bits, ir.Constant(I32X16, [16] * 16)), F32X16)

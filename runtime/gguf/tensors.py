"""The tensor table of a GGUF header: names, shapes, types, and where their bytes lie."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from slotmux.runtime.gguf.cursor import Cursor
from slotmux.runtime.gguf.errors import ModelFileError
from slotmux.runtime.gguf.limits import MAX_DIM, MAX_DIMS, MAX_TENSOR_NAME_BYTES

Bytes = npt.NDArray[np.uint8]

MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8  # name length, one letter, n_dims, one dim, type, offset


@dataclass(frozen=True, slots=True, eq=False)
class TensorInfo:
    """A tensor as the file declares it, checked to lie within the file."""

    name: str
    shape: tuple[int, ...]  # GGUF order: the contiguous dimension first
    type: GGMLQuantizationType
    n_bytes: int
    offset: int  # of its first byte in its file
    data: Bytes = field(repr=False)  # read-only, mapped

    @property
    def n_elements(self) -> int:
        return math.prod(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, that is of ``shape[0]`` elements."""
        return row_bytes(self.type, self.shape[0])


def row_bytes(kind: GGMLQuantizationType, n_elements: int) -> int:
    """Bytes of a row of ``n_elements``, which must be a multiple of the type's block."""
    block, block_bytes = GGML_QUANT_SIZES[kind]
    assert n_elements % block == 0
    return n_elements // block * block_bytes


@dataclass(frozen=True, slots=True)
class _Declared:
    """A row of the tensor table before its place in the file is checked."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    n_bytes: int
    relative: int  # offset from the start of the data section
    offset_field: int  # where `relative` is written, to blame in an error


def read_tensors(cursor: Cursor, n_tensors: int, alignment: int) -> dict[str, TensorInfo]:
    """The tensor table at the cursor, and views of the data that follows it."""
    declared: dict[str, _Declared] = {}
    for index in range(n_tensors):
        start = cursor.pos
        tensor = _read_declared(cursor, index)
        if tensor.name in declared:
            raise ModelFileError(f"tensors[{tensor.name}]", start, "the tensor comes twice")
        declared[tensor.name] = tensor
    begin = -(-cursor.pos // alignment) * alignment
    for tensor in declared.values():
        _check_place(tensor, begin, cursor.size, alignment)
    _check_overlap(list(declared.values()))
    data: Bytes = np.frombuffer(cursor.buffer, np.uint8)
    return {tensor.name: _place(tensor, begin, data) for tensor in declared.values()}


def _read_declared(cursor: Cursor, index: int) -> _Declared:
    start = cursor.pos
    name = cursor.string(f"tensors[{index}].name", MAX_TENSOR_NAME_BYTES)
    if not name:
        raise ModelFileError(f"tensors[{index}].name", start, "a name may not be empty")
    shape = _read_shape(cursor, name)
    kind = _read_type(cursor, name)
    block, _ = GGML_QUANT_SIZES[kind]
    if shape[0] % block:
        raise ModelFileError(
            f"tensors[{name}].shape",
            cursor.pos - 4,
            f"a row of {shape[0]} is not a multiple of {kind.name}'s block of {block}",
        )
    n_bytes = row_bytes(kind, shape[0]) * math.prod(shape[1:])
    place = cursor.pos
    relative = cursor.u64(f"tensors[{name}].offset")
    return _Declared(name, shape, kind, n_bytes, relative, place)


def _read_shape(cursor: Cursor, name: str) -> tuple[int, ...]:
    label = f"tensors[{name}].shape"
    start = cursor.pos
    n_dims = cursor.u32(label)
    if not 1 <= n_dims <= MAX_DIMS:
        raise ModelFileError(label, start, f"{n_dims} dimensions; 1 to {MAX_DIMS} are possible")
    shape = []
    for _ in range(n_dims):
        start = cursor.pos
        size = cursor.u64(label)
        if not 1 <= size <= MAX_DIM:
            raise ModelFileError(label, start, f"a dimension of {size} is not possible")
        shape.append(size)
    return tuple(shape)


def _read_type(cursor: Cursor, name: str) -> GGMLQuantizationType:
    start = cursor.pos
    number = cursor.u32(f"tensors[{name}].type")
    try:
        kind = GGMLQuantizationType(number)
    except ValueError:
        kind = None
    if kind is None or kind not in GGML_QUANT_SIZES:
        raise ModelFileError(f"tensors[{name}].type", start, f"unknown tensor type {number}")
    return kind


def _check_place(tensor: _Declared, begin: int, size: int, alignment: int) -> None:
    label = f"tensors[{tensor.name}].offset"
    if tensor.relative % alignment:
        raise ModelFileError(
            label,
            tensor.offset_field,
            f"{tensor.relative} is not a multiple of the file's alignment of {alignment}",
        )
    end = begin + tensor.relative + tensor.n_bytes
    if end > size:
        raise ModelFileError(
            label,
            tensor.offset_field,
            f"the data would end at byte {end} of a file of {size} bytes: is it complete?",
        )


def _check_overlap(tensors: list[_Declared]) -> None:
    tensors.sort(key=lambda tensor: tensor.relative)
    for before, after in pairwise(tensors):
        if before.relative + before.n_bytes > after.relative:
            raise ModelFileError(
                f"tensors[{after.name}].offset",
                after.offset_field,
                f"the data overlaps that of {before.name!a}",
            )


def _place(tensor: _Declared, begin: int, data: Bytes) -> TensorInfo:
    start = begin + tensor.relative
    view = data[start : start + tensor.n_bytes]
    return TensorInfo(tensor.name, tensor.shape, tensor.type, tensor.n_bytes, start, view)

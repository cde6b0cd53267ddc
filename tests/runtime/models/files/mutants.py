"""A model file with one key or one tensor changed, in memory."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType

from slotmux.runtime.gguf import GGUFFile, Metadata, TensorInfo
from slotmux.runtime.gguf.strings import StringArray
from slotmux.runtime.gguf.tensors import row_bytes
from slotmux.runtime.gguf.values import Entry

V, T = GGUFValueType, GGMLQuantizationType
INTEGERS = (0, 1, 3, -1, 1 << 31, 1 << 63)
FLOATS = (0.0, -1.0, 1e-42, 1e38, math.nan, math.inf, -math.inf)
SCALARS = (*((V.INT64, value) for value in INTEGERS), *((V.FLOAT64, value) for value in FLOATS))
TYPES = (T.F16, T.BF16, T.F64, T.I8, T.I16, T.I32, T.I64, T.Q8_0, T.Q4_K)


def key_mutants(file: GGUFFile, key: str) -> Iterator[tuple[str, GGUFFile]]:
    """Every wrong value of ``key``, with what was done to it."""
    entries = dict(file.metadata._entries)
    old = entries.pop(key)
    yield "missing", with_entries(file, entries)
    changes = [Entry(kind, value, old.offset) for kind, value in SCALARS]
    changes += [Entry(V.STRING, "", old.offset), Entry(V.STRING, "x", old.offset)]
    changes += [Entry(V.BOOL, value, old.offset) for value in (False, True)]
    changes += [Entry(V.ARRAY, array, old.offset) for array in _arrays(old.value)]
    for new in changes:
        what = f"{new.type.name} {new.value!r}"
        yield what, with_entries(file, {**entries, key: new})


def _arrays(value: Any) -> Iterator[Any]:
    """Arrays in place of ``value``: of other types and lengths, and with one item changed."""
    yield np.zeros(0, np.int32)
    yield np.zeros(1, np.float32)
    yield StringArray("k", memoryview(b""), 0, 0, array("Q"))
    if not isinstance(value, np.ndarray) or not len(value):
        return
    yield value[:-1]
    yield np.append(value, value[-1:])
    for item in (0, 3, -1, 1 << 31, math.nan) if value.dtype.kind != "b" else (0, 1):
        changed = value.astype(np.float64 if value.dtype.kind == "f" else np.int64)
        if item == item or value.dtype.kind == "f":
            changed[len(changed) // 2] = item
            yield changed if value.dtype.kind != "b" else changed.astype(bool)


def with_entries(file: GGUFFile, entries: Mapping[str, Entry]) -> GGUFFile:
    """The file with other metadata."""
    return replace(file, metadata=Metadata(entries, file.paths[0]))


def tensor_mutants(file: GGUFFile, name: str) -> Iterator[tuple[str, GGUFFile]]:
    """Every wrong form of a tensor, with what was done to it."""
    for what, new in _changes(file.tensors[name]):
        others = {key: tensor for key, tensor in file.tensors.items() if key != name}
        tensors = {**others, **{tensor.name: tensor for tensor in new}}
        yield what, with_entries(replace(file, tensors=tensors), file.metadata._entries)


def _changes(old: TensorInfo) -> Iterator[tuple[str, list[TensorInfo]]]:
    """What is done to a tensor, and the tensors that take its place."""
    yield "missing", []
    yield "twice", [old, replace(old, name=f"{old.name}2")]
    for kind in TYPES:
        if kind != old.type:
            yield kind.name, [_of(old, old.shape, kind)]
    shapes = {old.shape[::-1], (old.n_elements,), old.shape[:1], (*old.shape, 1), (1, *old.shape)}
    shapes |= {(*old.shape[:-1], old.shape[-1] + 1), (old.shape[0] + 32, *old.shape[1:]), (1,)}
    for shape in sorted(shapes - {old.shape}):
        if len(shape) <= 4:
            yield str(shape), [_of(old, shape, old.type)]


def _of(old: TensorInfo, shape: tuple[int, ...], kind: GGMLQuantizationType) -> TensorInfo:
    """A tensor of zeros; rows are filled up to the type's block, as no file could have them."""
    block = {T.Q8_0: 32, T.Q4_K: 256}.get(kind, 32 if kind.name.startswith("Q") else 1)
    shape = (-(-shape[0] // block) * block, *shape[1:])
    n_bytes = row_bytes(kind, shape[0]) * math.prod(shape[1:])
    data = np.zeros(n_bytes, np.uint8)
    return TensorInfo(old.name, shape, kind, n_bytes, old.offset, data)

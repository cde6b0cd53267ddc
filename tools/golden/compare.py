"""Two golden folders of one name, file by file: the same bytes, or where they differ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np


def differences(made: Path, committed: Path) -> Iterator[str]:
    """A line for each file that is not the same in both."""
    names = {file.name for folder in (made, committed) for file in folder.iterdir()}
    for name in sorted(names):
        ours, theirs = made / name, committed / name
        if not ours.is_file() or not theirs.is_file():
            yield f"{name}: only in {(made if ours.is_file() else committed)}"
        elif ours.read_bytes() != theirs.read_bytes():
            yield f"{name}: {'; '.join(explained(ours, theirs)) or 'other bytes, same content'}"


def explained(ours: Path, theirs: Path) -> Iterator[str]:
    if ours.suffix == ".gguf":
        yield from of_models(gguf.GGUFReader(ours), gguf.GGUFReader(theirs))
    elif ours.suffix == ".npz":
        yield from of_arrays(ours, theirs)
    else:
        yield "other text"


def of_models(ours: gguf.GGUFReader, theirs: gguf.GGUFReader) -> Iterator[str]:
    """Keys whose values differ, and tensors."""
    for key in sorted({*ours.fields, *theirs.fields}):
        a, b = ours.fields.get(key), theirs.fields.get(key)
        if a is None or b is None:
            yield f"{key} only in one"
        elif a.contents() != b.contents():
            yield f"{key} differs"
    tensors = {t.name: t.data for t in theirs.tensors}
    names = {t.name for t in ours.tensors}
    for name in sorted(names ^ set(tensors)):
        yield f"tensor {name} only in one"
    n = sum(t.name in tensors and not same(t.data, tensors[t.name]) for t in ours.tensors)
    if n:
        yield f"{n} of {len(names)} tensors differ"


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def of_arrays(ours: Path, theirs: Path) -> Iterator[str]:
    with np.load(ours) as a, np.load(theirs) as b:
        for key in sorted({*a.files, *b.files}):
            if key not in a.files or key not in b.files:
                yield f"{key} only in one"
            elif a[key].shape != b[key].shape:
                yield f"{key} has shape {a[key].shape}, not {b[key].shape}"
            elif not same(a[key], b[key]):
                yield f"{key} by {np.abs(a[key] - b[key]).max():.1e}"

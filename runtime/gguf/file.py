"""A model on disk: one GGUF file, or the parts of a split one read as if they were one."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from slotmux.runtime.gguf.errors import ModelFileError
from slotmux.runtime.gguf.limits import MAX_SPLITS
from slotmux.runtime.gguf.metadata import Metadata
from slotmux.runtime.gguf.part import Part, read_part
from slotmux.runtime.gguf.tensors import TensorInfo

_SPLIT_NAME = re.compile(r"(?P<stem>.+)-(?P<no>\d{5})-of-(?P<count>\d{5})\.gguf")
_ARCHITECTURE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class GGUFFile:
    """A checked model file. Tensor data is mapped, not read; the files must stay unchanged."""

    paths: tuple[Path, ...]
    n_bytes: int  # of all files together
    architecture: str
    metadata: Metadata
    tensors: dict[str, TensorInfo]

    @property
    def n_params(self) -> int:
        """Numbers in all tensors together."""
        return sum(tensor.n_elements for tensor in self.tensors.values())


def open_gguf(path: str | os.PathLike[str]) -> GGUFFile:
    """Open a GGUF model; of a split model, any part's path opens the whole.

    Raises ModelFileError for anything that is not a sound, complete GGUF file.
    """
    given = Path(path)
    name = _SPLIT_NAME.fullmatch(given.name)
    if name is None:
        first = read_part(given)
        _check_not_split(first)
        return _join([first])
    whole = _whole_under_a_parts_name(given)
    if whole is not None:
        return _join([whole])
    n_parts = int(name["count"])
    if not 1 <= n_parts <= MAX_SPLITS or not 1 <= int(name["no"]) <= n_parts:
        raise ModelFileError("file", None, f"the name asks for {n_parts} parts", given)
    parts = []
    for no in range(n_parts):
        part = read_part(given.with_name(split_name(name["stem"], no, n_parts)))
        _check_split(part, no, n_parts)
        parts.append(part)
    return _join(parts)


def split_name(stem: str, no: int, n_parts: int) -> str:
    """The file name of part ``no`` (from 0) of a model split in ``n_parts``."""
    return f"{stem}-{no + 1:05d}-of-{n_parts:05d}.gguf"


def parse_split_name(name: str) -> tuple[str, int, int] | None:
    """``(stem, no from 0, n_parts)`` of a split file's name, None for any other name."""
    match = _SPLIT_NAME.fullmatch(name)
    if match is None:
        return None
    return match["stem"], int(match["no"]) - 1, int(match["count"])


def _whole_under_a_parts_name(path: Path) -> Part | None:
    """A file that is named like one of several parts and says nothing of a split."""
    if not path.is_file():
        return None  # of a split model, the first part that is missing gets the blame
    part = read_part(path)
    return None if "split.count" in part.metadata else part


def _check_not_split(part: Part) -> None:
    n_parts = part.metadata.get_u32("split.count", 1)
    if n_parts > 1:
        raise _refused(
            part,
            "split.count",
            f"this is one of {n_parts} parts; name it as llama-gguf-split does,"
            f" like {split_name('model', part.metadata.get_u32('split.no', 0), n_parts)}",
        )


def _check_split(part: Part, no: int, n_parts: int) -> None:
    stored = part.metadata.get_u32("split.count", 1)
    if stored != n_parts:
        raise _refused(part, "split.count", f"{stored}, but the file's name says {n_parts}")
    stored = part.metadata.get_u32("split.no", 0)
    if stored != no:
        raise _refused(part, "split.no", f"{stored}, but the file's name says {no} (from 0)")


def _join(parts: list[Part]) -> GGUFFile:
    first = parts[0]
    tensors: dict[str, TensorInfo] = {}
    for part in parts:
        for name, tensor in part.tensors.items():
            if name in tensors:
                raise _refused(part, f"tensors[{name}]", "an earlier part has this tensor too")
            tensors[name] = tensor
    wanted = first.metadata.get_u32("split.tensors.count", len(tensors))
    if wanted != len(tensors):
        raise _refused(first, "split.tensors.count", f"{wanted}, but {len(tensors)} tensors exist")
    return GGUFFile(
        paths=tuple(part.path for part in parts),
        n_bytes=sum(part.n_bytes for part in parts),
        architecture=_architecture(first),
        metadata=first.metadata,
        tensors=tensors,
    )


def _architecture(part: Part) -> str:
    key = "general.architecture"
    name = part.metadata.get_str(key)
    if not _ARCHITECTURE.fullmatch(name):
        raise _refused(part, key, "not the name of an architecture")
    return name


def _refused(part: Part, key: str, reason: str) -> ModelFileError:
    return ModelFileError(key, part.metadata.offset(key), reason, part.path)

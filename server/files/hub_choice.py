"""Which files of a repository to take for a wanted quantisation."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from slotmux.runtime.gguf import parse_split_name, split_name
from slotmux.server.files.download import ModelSourceError

_PREFERRED = ("Q4_K_M", "Q8_0")
_NOT_MODELS = ("mmproj", "imatrix")  # GGUF files that lie beside models


def choose_files(names: list[str], quant: str | None, repo: str) -> list[str]:
    """The GGUF file of ``quant`` among a repository's ``names``, all parts if it is split.
    Without ``quant``: Q4_K_M, else Q8_0, else the first. Raises ModelSourceError if none fits."""
    groups = group_parts(names)
    if not groups:
        raise ModelSourceError(f"{repo} holds no GGUF file")
    stems = sorted(groups)
    for wanted in (quant,) if quant else _PREFERRED:
        found = [stem for stem in stems if _has_quant(stem, wanted)]
        # The file's own name counts more than a folder's.
        found.sort(key=lambda stem: not _has_quant(PurePosixPath(stem).name, wanted))
        if found:
            return _whole(groups[found[0]], repo)
    if quant:
        listed = ", ".join(PurePosixPath(stem).name for stem in stems[:20])
        raise ModelSourceError(f"{repo} holds no GGUF file of {quant}; it holds {listed}")
    return _whole(groups[stems[0]], repo)


def group_parts(names: list[str]) -> dict[str, list[str]]:
    """Model files by their name without the part number and ``.gguf``."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        path = PurePosixPath(name)
        is_model = not any(word in path.name.lower() for word in _NOT_MODELS)
        is_safe = not path.is_absolute() and ".." not in path.parts and "\\" not in name
        if path.suffix.lower() != ".gguf" or not is_model or not is_safe:
            continue
        split = parse_split_name(path.name)
        stem = split[0] if split else path.stem
        groups.setdefault(str(path.with_name(stem)), []).append(name)
    return groups


def _has_quant(stem: str, quant: str) -> bool:
    """Whether ``quant`` is a word of ``stem``: Q4_0 is none of model-Q4_0_4_4."""
    pattern = rf"(?<![A-Za-z0-9]){re.escape(quant)}(?![A-Za-z0-9_])"
    return re.search(pattern, stem, re.IGNORECASE) is not None


def _whole(parts: list[str], repo: str) -> list[str]:
    """``parts`` in order, if none is missing."""
    first = PurePosixPath(parts[0])
    split = parse_split_name(first.name)
    if split is None:
        return [parts[0]]
    stem, _, n_parts = split
    wanted = [str(first.with_name(split_name(stem, no, n_parts))) for no in range(n_parts)]
    missing = sorted(set(wanted) - set(parts))
    if missing:
        raise ModelSourceError(f"{repo} lacks {missing[0]}, a part of {stem}")
    return wanted

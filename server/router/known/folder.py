"""--models-dir: the models of a folder, named after files or subfolders as by llama-server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_PART = re.compile(r"(?P<name>.+)-(?P<part>\d{5})-of-\d{5}$", re.ASCII)
_SUFFIX = ".gguf"


def models_in(folder: Path) -> dict[str, Path]:
    """Name and (first) file of each model, in order of the alphabet. A folder that holds one is
    named after it; projectors (mmproj*) are no models. Raises OSError."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            inside = [each for each in sorted(path.iterdir()) if _is_model(each)]
            if inside:
                found[path.name] = inside[0]
        elif _is_model(path):
            found[model_name(path)] = path
    return dict(sorted(found.items()))


def model_name(path: Path) -> str:
    """A file's name without .gguf, and without the number of its part."""
    stem = path.name.removesuffix(_SUFFIX)
    match = _PART.fullmatch(stem)
    return match["name"] if match else stem


def file_names(path: Path) -> Iterator[str]:
    """What a model may be called after its file, with and without .gguf."""
    yield path.name
    yield path.name.removesuffix(_SUFFIX)


def _is_model(path: Path) -> bool:
    if path.suffix != _SUFFIX or path.name.startswith(("mmproj", ".")) or not path.is_file():
        return False
    match = _PART.fullmatch(path.name.removesuffix(_SUFFIX))
    return match is None or int(match["part"]) == 1

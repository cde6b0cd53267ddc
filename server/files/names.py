"""What people call a model: a file, a name in a folder of models, Ollama's ways to name the hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from slotmux.server.files.default_model import DEFAULT_MODEL
from slotmux.server.files.download import ModelSourceError
from slotmux.server.files.hub_choice import group_parts

_HUB_ADDRESS = re.compile(r"(https?://)?(hf\.co|huggingface\.co)/(?P<rest>.+)", re.IGNORECASE)
_REPO = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?", re.ASCII)
_DEFAULT_NAMES = frozenset({"default", Path(DEFAULT_MODEL.file_name).stem.casefold()})


def spec_of(name: str | None, folders: Sequence[Path]) -> str | None:
    """``name`` in the words of ``resolve_model``: the address of a repository becomes hf:USER/REPO,
    a bare name the file of ``folders`` that is called so, a folder the one model in it.

    What is none of these stays as it is. Raises ModelSourceError for a folder with more models, or
    none.
    """
    if name is None or name == "demo" or name.startswith("hf:"):
        return name
    address = _HUB_ADDRESS.fullmatch(name)
    if address is not None:
        return f"hf:{address['rest'].rstrip('/')}"
    path = Path(name).expanduser()
    if path.is_dir():
        return str(_only_model(path))
    if path.exists() or "/" in name:
        return name
    found = _in_folders(name, folders)
    if found is None and name.casefold() in _DEFAULT_NAMES:
        return None
    return name if found is None else str(found)


def pullable(name: str | None, folders: Sequence[Path]) -> str | None:
    """As ``spec_of``, for who wants to download: USER/REPO is a repository, without ``hf:`` too.
    Raises ModelSourceError for a name that nothing here is called by."""
    spec = spec_of(name, folders)
    if spec is None or spec == "demo" or spec.startswith("hf:") or Path(spec).exists():
        return spec
    if _REPO.fullmatch(spec):
        return f"hf:{spec}"
    raise ModelSourceError(
        f"there is no model {spec} here: `slotmux list` shows those that are,"
        " `slotmux pull USER/REPO:QUANT` fetches one from the Hugging Face hub"
    )


def models_in(folder: Path) -> dict[str, list[Path]]:
    """The models of a folder by name, each with its files (of a split model, every part). A folder
    inside is called by its name and stands for the first model in it, as with --models-dir."""
    if not folder.is_dir():
        return {}
    inside = ((path.name, _beside(path)) for path in folder.iterdir() if path.is_dir())
    found = {name: next(iter(models.values())) for name, models in inside if models}
    return dict(sorted((found | _beside(folder)).items()))


def _beside(folder: Path) -> dict[str, list[Path]]:
    """The models that lie in a folder itself."""
    groups = group_parts([path.name for path in folder.iterdir() if path.is_file()])
    return {stem: [folder / name for name in parts] for stem, parts in sorted(groups.items())}


def _only_model(folder: Path) -> Path:
    models = _beside(folder)
    if len(models) != 1:
        held = ", ".join(list(models)[:20]) or "no GGUF file"
        raise ModelSourceError(f"{folder} holds {held}: name one file")
    return next(iter(models.values()))[0]


def _in_folders(name: str, folders: Sequence[Path]) -> Path | None:
    wanted = name.casefold().removesuffix(".gguf")
    for folder in folders:
        for stem, paths in models_in(folder).items():
            if stem.casefold() == wanted:
                return paths[0]
    return None

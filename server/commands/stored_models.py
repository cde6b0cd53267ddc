"""`slotmux pull`, `slotmux list`, `slotmux rm`: the models on this machine, as Ollama's users know
them."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from slotmux.server.commands.flags import takes_settings
from slotmux.server.commands.options import JsonOpt, argument, option
from slotmux.server.files.installed import Installed
from slotmux.server.files.names import pullable
from slotmux.server.loading.errors import CommandError
from slotmux.server.loading.locate import hub_of, locate, model_folders
from slotmux.server.settings import Settings
from slotmux.server.terminal.words import ago, columns, size

ModelsDirOpt = Annotated[
    Path | None,
    option("--models-dir", help="A folder of models, looked into first.", metavar="FOLDER"),
]


@takes_settings("cache_dir", "hf_token", "hf_endpoint")
def pull(
    settings: Settings,
    name: Annotated[
        str | None,
        argument("NAME", "USER/REPO[:QUANT] of the Hugging Face hub; default: the model that"
                 " `slotmux serve` takes when none is named."),
    ] = None,
    models_dir: Annotated[
        Path | None,
        option("--models-dir", help="Link the files into this folder, too.", metavar="FOLDER"),
    ] = None,
) -> None:  # fmt: skip
    """Download a model, or go on where an earlier download stopped, and print its path.

    It lands where `slotmux serve` looks for it: the cache of the Hugging Face hub, which other
    programs share. hf:USER/REPO, hf.co/USER/REPO and USER/REPO are the same.
    """
    from slotmux.runtime.gguf import open_gguf

    file = open_gguf(locate(pullable(name, _folders(settings, models_dir)), settings))
    if models_dir is not None:
        for path in file.paths:
            _link(path, models_dir)
    paths = tuple(path.resolve() for path in file.paths)
    found = next((m for m in _installed(settings, models_dir) if _is_at(m, paths)), None)
    told = str(file.paths[0]) if found is None else found.name
    print(f"{told}  {size(file.n_bytes)}", file=sys.stderr)
    print(file.paths[0])


@takes_settings("cache_dir")
def list_models(
    settings: Settings, models_dir: ModelsDirOpt = None, as_json: JsonOpt = False
) -> None:
    """Print the models on this machine: of ./models, of slotmux's own folder and of the cache of
    the Hugging Face hub. Every command that takes a MODEL takes these names."""
    models = _installed(settings, models_dir)
    if as_json:
        print(json.dumps([_as_json(model) for model in models]))
        return
    rows = [(m.name, size(m.n_bytes), ago(time.time() - m.modified)) for m in models]
    print(columns(("NAME", "SIZE", "MODIFIED"), rows))


@takes_settings("cache_dir")
def rm(
    settings: Settings,
    names: Annotated[list[str], argument("NAME", "Names that `slotmux list` prints.")],
    models_dir: ModelsDirOpt = None,
) -> None:
    """Delete models from this machine. Nothing is deleted unless every name is known."""
    from slotmux.server.files.installed import remove

    models = _installed(settings, models_dir)
    for model in [_called(name, models) for name in names]:
        remove(model)
        print(f"deleted {model.name}")


def _called(name: str, models: list[Installed]) -> Installed:
    wanted = name.casefold()
    for model in models:
        if model.name.casefold() in (wanted, f"hf:{wanted}", wanted.removesuffix(".gguf")):
            return model
    raise CommandError(f"there is no model {name} here: `slotmux list` shows those that are")


def _installed(settings: Settings, models_dir: Path | None) -> list[Installed]:
    from slotmux.server.files.hub import hub_cache_dir
    from slotmux.server.files.installed import installed

    return installed(_folders(settings, models_dir), hub_cache_dir(hub_of(settings)))


def _folders(settings: Settings, models_dir: Path | None) -> tuple[Path, ...]:
    return (*((models_dir,) if models_dir else ()), *model_folders(settings))


def _is_at(model: Installed, paths: tuple[Path, ...]) -> bool:
    return tuple(path.resolve() for path in model.paths) == paths


def _link(path: Path, folder: Path) -> None:
    """Raises CommandError where another file is in the way."""
    link = folder / path.name
    if link.exists() and link.samefile(path):
        return
    if link.exists():
        raise CommandError(f"{link} is another file: it is left as it is")
    folder.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)  # it leads nowhere
    link.symlink_to(path.resolve())


def _as_json(model: Installed) -> dict[str, str | int | list[str]]:
    return {
        "name": model.name,
        "size": model.n_bytes,
        "modified_at": datetime.fromtimestamp(model.modified, UTC).isoformat(),
        "files": [str(path) for path in model.paths],
    }

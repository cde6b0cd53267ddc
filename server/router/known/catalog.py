"""Which models there are, what each is called, and with which settings it is served."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slotmux.server.answers.prepare import MAX_NAMES_TOLD
from slotmux.server.http.errors import ApiError, invalid
from slotmux.server.process.state import DEFAULT_NAME
from slotmux.server.router.known.config_file import EVERYWHERE, config_error, read_sections
from slotmux.server.router.known.folder import file_names, models_in
from slotmux.server.router.known.options import ModelOptions, options_of, settings_of
from slotmux.server.settings import Settings, SettingsError, told_as

Source = Literal["models_dir", "preset"]
_LATEST = ":latest"  # Ollama's tag for a name without one


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model that can be served. ``settings``: those of its process, as the operator chose them;
    ``settings.model`` is its file, or hf:USER/REPO:QUANT."""

    name: str
    settings: Settings
    source: Source
    aliases: tuple[str, ...] = ()
    is_pinned: bool = False  # loaded at the start, and as long as the server runs
    loads_at_start: bool = False
    is_default: bool = False

    @property
    def model(self) -> str:
        """What is served."""
        assert self.settings.model is not None
        return self.settings.model

    @property
    def path(self) -> Path | None:
        """Its file, if it is one on this machine."""
        if self.model.startswith("hf:") or self.model == "demo":
            return None
        return Path(self.model).expanduser()

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that is told."""
        return (self.name, *self.aliases)


class Catalog:
    """The models of one moment, by all their names."""

    def __init__(self, specs: Iterable[ModelSpec]) -> None:
        """Raises SettingsError where two models have one name."""
        self.specs = {spec.name: spec for spec in specs}
        self._exact: dict[str, ModelSpec] = {}
        for spec in self.specs.values():
            for name in spec.names:
                other = self._exact.setdefault(name, spec)
                if other is not spec:
                    raise config_error(f"{name} names two models: [{other.name}], [{spec.name}]")
        self._loose = self._loosely()
        default = [spec for spec in self.specs.values() if spec.is_default]
        if len(default) > 1:
            raise config_error(f"[{default[0].name}] and [{default[1].name}] are both the default")
        only = [*self.specs.values()] if len(self.specs) == 1 else []
        self.default = next(iter(default or only), None)

    def find(self, asked: str | None) -> ModelSpec:
        """The model that a request asks for, by any of its names in any case. None and "default"
        are the operator's default, or the only one. Raises ApiError 400 or 404."""
        if not asked or (asked == DEFAULT_NAME and asked not in self._exact):
            if self.default is None:
                raise invalid(
                    "model",
                    f"Missing required parameter: 'model'. {self._told()}",
                    "missing_required_parameter",
                )
            return self.default
        for name in (asked, asked.removesuffix(_LATEST)):
            spec = self._exact.get(name) or self._loose.get(name.casefold())
            if spec is not None:
                return spec
        raise ApiError(
            404,
            f"The model does not exist here. {self._told()}",
            param="model",
            code="model_not_found",
        )

    def _told(self) -> str:
        names = [f"'{name}'" for name in self.specs]
        more = f" and {len(names) - MAX_NAMES_TOLD} more" if len(names) > MAX_NAMES_TOLD else ""
        return f"Served: {', '.join(names[:MAX_NAMES_TOLD]) or 'none'}{more}."

    def _loosely(self) -> dict[str, ModelSpec]:
        """Names in any case, and those of files where only one model has them."""
        found = {name.casefold(): spec for name, spec in reversed(self._exact.items())}
        of_files: dict[str, set[str]] = {}
        for spec in self.specs.values():
            for name in file_names(spec.path) if spec.path else ():
                of_files.setdefault(name.casefold(), set()).add(spec.name)
        for name, owners in of_files.items():
            if len(owners) == 1:
                found.setdefault(name, self.specs[next(iter(owners))])
        return found


def read_catalog(settings: Settings, flags: Mapping[str, Any]) -> Catalog:
    """What --models-dir and --models-config name now. ``flags``: what was said on the command line;
    it counts more than a section, that more than the section [*], that more than variables.

    Raises SettingsError."""
    return Catalog(_specs(settings, flags))


def _specs(settings: Settings, flags: Mapping[str, Any]) -> Iterator[ModelSpec]:
    sections = read_sections(settings.models_config) if settings.models_config else {}
    for_all = options_of(EVERYWHERE, sections.pop(EVERYWHERE, {}))
    given = {name: value for name, value in flags.items() if value is not None}
    files = _files(settings)
    for name in dict.fromkeys((*files, *sections)):
        own = options_of(name, sections.get(name, {}))
        source: Source = "models_dir" if name in files else "preset"
        place = {"model": str(files[name])} if name in files else {}
        chosen = settings_of(name, for_all.flags, place, own.flags, given)
        yield _spec(name, chosen, own, for_all, source)


def _files(settings: Settings) -> dict[str, Path]:
    if settings.models_dir is None:
        return {}
    try:
        return models_in(settings.models_dir)
    except OSError as error:
        raise SettingsError(f"{told_as('models_dir')}: {error}") from None


def _spec(
    name: str, settings: Settings, own: ModelOptions, for_all: ModelOptions, source: Source
) -> ModelSpec:
    if settings.model is None:
        raise config_error(f"[{name}] says no model: there is no such file in --models-dir")
    spec = ModelSpec(
        name,
        settings,
        source,
        aliases=tuple(alias for alias in settings.alias if alias != name),
        is_pinned=own.is_pinned or for_all.is_pinned,
        loads_at_start=own.loads_at_start or for_all.loads_at_start,
        is_default=own.is_default,
    )
    if spec.path is not None and not spec.path.is_file():
        raise config_error(f"[{name}] there is no file {spec.path}")
    return spec

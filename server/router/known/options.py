"""From a model's section to the settings of its process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slotmux.server.commands.flags import PANELS, POSITIONAL
from slotmux.server.commands.llama_options import OPTIONS, VARIABLES, translate
from slotmux.server.router.known.config_file import Section, config_error
from slotmux.server.settings import (
    Settings,
    SettingsError,
    env_name,
    flag_name,
    load_settings,
)
from slotmux.server.settings_models import ModelsSettings

# Settings that are the router's, and no model's own.
OF_ROUTER = frozenset(ModelsSettings.model_fields) - {"keep_alive"} | {
    *("host", "port", "api_key", "api_key_file", "insecure_no_key", "cors_origins"),
    *("allowed_hosts", "metrics", "slots", "props", "max_connections", "header_timeout"),
    *("body_timeout", "mem_limit", "log_format", "log_level", "cache_dir", "drain_timeout"),
}
# Options that only sections have: llama-server's name of the first, and ours.
_OWN = {"load-on-startup": "loads_at_start", "pinned": "is_pinned", "default": "is_default"}
_TRUE, _FALSE = ("true", "on", "yes", "1"), ("false", "off", "no", "0")
_FLAGS = {name: flag for panel in PANELS.values() for name, flag in panel.items()}
_SWITCHES = frozenset(name for name in _FLAGS if Settings.model_fields[name].annotation is bool)
# Every flag's names, with their fields.
_FIELDS = {
    **{flag_name(name): name for name in _FLAGS},
    **{"--no-" + flag_name(name)[2:]: name for name in _SWITCHES},
    **{short: name for name, flag in _FLAGS.items() for short in flag.short},
}


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What a section says. ``flags``: fields of Settings, as ``load_settings`` takes them."""

    flags: Mapping[str, Any]
    loads_at_start: bool = False
    is_pinned: bool = False
    is_default: bool = False


def options_of(section: str, options: Section) -> ModelOptions:
    """The options of a section. Raises SettingsError that names section and option."""
    own: dict[str, bool] = {}
    flags: dict[str, Any] = {}
    for key, value in options.items():
        if key in _OWN:
            own[_OWN[key]] = _switch(section, key, value)
            continue
        for name, its_value in _flags_of(section, key, value):
            if name in OF_ROUTER:
                raise config_error(
                    f"[{section}] {key} is the same for all models: give {flag_name(name)} to"
                    " slotmux serve"
                )
            flags[name] = its_value
    return ModelOptions(flags, **own)


def settings_of(section: str, *layers: Mapping[str, Any]) -> Settings:
    """Settings of ``layers``, the first one least. Raises SettingsError that names the section."""
    merged = {name: value for layer in layers for name, value in layer.items()}
    try:
        return load_settings(**merged)
    except SettingsError as error:
        raise config_error(f"[{section}] {error}") from None


def _switch(section: str, key: str, value: str | bool) -> bool:
    word = str(value).lower()
    if word not in (*_TRUE, *_FALSE):
        raise config_error(f"[{section}] {key}: should be true or false")
    return word in _TRUE


def _flags_of(section: str, key: str, value: str | bool) -> Iterator[tuple[str, Any]]:
    """Fields of Settings that an option sets, under our name or llama-server's."""
    name = _flag_of(key)
    field = _FIELDS.get(name)
    if field in _SWITCHES:
        yield field, _switch(section, key, value) != name.startswith("--no-")
        return
    if field is not None:
        yield field, str(value)
        return
    option = OPTIONS.get(name)
    if option is None:
        raise config_error(f"[{section}] {key}: there is no such option")
    if option.rule == "refused":
        raise config_error(f"[{section}] {key}: {option.text}")
    if option.value == "none" and not _switch(section, key, value):
        raise config_error(f"[{section}] {key}: leave it out instead of switching it off")
    words = [name] if option.value == "none" else [name, str(value)]
    yield from _pairs(translate(words, ()).args)


def _flag_of(key: str) -> str:
    """The flag that a key means: its long name, a short one, or a variable."""
    variables = {env_name(flag_name(name)): name for name in _FLAGS} | dict(VARIABLES)
    if key in variables:
        return flag_name(variables[key]) if variables[key] != POSITIONAL else "--model"
    bare = key.lstrip("-")
    long = f"--{bare}"
    return long if long in _FIELDS or long in OPTIONS else f"-{bare}"


def _pairs(args: list[str]) -> Iterator[tuple[str, Any]]:
    """What ``translate`` made of an option of llama-server: nothing, the model, or a flag."""
    if not args:
        return
    if args[0] not in _FIELDS:
        yield POSITIONAL, args[0]
        return
    field = _FIELDS[args[0]]
    yield field, args[1] if len(args) > 1 else not args[0].startswith("--no-")

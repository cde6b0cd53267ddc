"""--models-config: sections of options, from INI as llama-server's presets, from TOML or JSON."""

from __future__ import annotations

import configparser
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slotmux.server.settings import SettingsError, told_as

EVERYWHERE = "*"  # the section whose options all models have
MAX_BYTES = 1 << 20
_TOP = "\0top"  # where an INI file's keys before its first section are put
Section = Mapping[str, str | bool]


def read_sections(path: Path) -> dict[str, Section]:
    """Options by section, in the file's order; their values as they would be written on a command
    line, or whether a switch is on. Raises SettingsError that names what is wrong."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise config_error(f"{path} is larger than {MAX_BYTES} bytes")
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise config_error(f"{path} cannot be read ({type(error).__name__})") from None
    try:
        raw = _parse(path, text)
    except (ValueError, configparser.Error) as error:
        raise config_error(f"{path}: {' '.join(str(error).split())}") from None
    sections: dict[str, Section] = {}
    for name, options in raw.items():
        if not isinstance(options, Mapping):
            if name == "version":  # of llama-server's format
                continue
            raise config_error(f"{path}: '{name}' should be a section of options")
        sections[name] = {key: _value(name, key, value) for key, value in options.items()}
    return sections


def config_error(message: str) -> SettingsError:
    """What is wrong with the file, told with the flag that named it."""
    return SettingsError(f"{told_as('models_config')}: {message}")


def _parse(path: Path, text: str) -> dict[str, Any]:
    if path.suffix == ".toml":
        return tomllib.loads(text)
    if path.suffix == ".json":
        value = json.loads(text)
        if not isinstance(value, dict):
            raise ValueError("should be an object of sections")
        return value
    parser = configparser.ConfigParser(
        interpolation=None, default_section="\0", delimiters=("=",), comment_prefixes=(";", "#")
    )
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read_string(f"[{_TOP}]\n{text}", str(path))
    sections: dict[str, Any] = {name: dict(parser[name]) for name in parser.sections()}
    top: dict[str, Any] = sections.pop(_TOP)
    return top | sections


def _value(section: str, key: str, value: Any) -> str | bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, str | int | float):
        return str(value)
    raise config_error(
        f"[{section}] {key}: should be a text, a number, a switch or a list of texts"
    )

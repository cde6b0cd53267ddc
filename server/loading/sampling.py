"""What a request gets that says nothing about sampling: the operator's choice, else what the file
recommends (``general.sampling.*``), else llama-server's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from slotmux.runtime.gguf.metadata import Metadata
from slotmux.runtime.sampling.params import NUMBERS
from slotmux.server.answers.sampling import SamplingDefaults
from slotmux.server.settings import Settings
from slotmux.server.settings_sampling import SamplingSettings

_PREFIX = "general.sampling."
# From settings to the names of SamplingParams, and from keys of a file to settings.
_PARAMS = {number.told.setting or name: name for name, number in NUMBERS.items()}
_KEYS = {"sequence": "samplers"} | {
    NUMBERS[name].told.key: setting for setting, name in _PARAMS.items() if NUMBERS[name].told.key
}


def sampling_defaults(settings: Settings, metadata: Metadata) -> SamplingDefaults:
    """Warns of keys of the file that cannot be used, and leaves them out."""
    chosen = {name: getattr(settings, name) for name in SamplingSettings.model_fields}
    values = _of_file(metadata) | {k: v for k, v in chosen.items() if v is not None}
    seed = values.pop("seed", -1)
    values["top_k"] = max(0, values["top_k"]) if "top_k" in values else 40
    defaults = SamplingDefaults(seed=seed)
    named = {_PARAMS.get(name, name): value for name, value in values.items()}
    return replace(defaults, params=replace(defaults.params, **named))


def _read(metadata: Metadata) -> Callable[[str, Any], Any]:
    """The value of a key, or the default."""
    return lambda key, default: metadata.get(key, default)


def _of_file(metadata: Metadata) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, name in _KEYS.items():
        value = metadata.tolerant(_PREFIX + key, None, _read(metadata))
        if value is None:
            continue
        if isinstance(value, float) and math.isfinite(value):
            value = float(str(np.float32(value)))  # 0.95, as it was meant
        field = SamplingSettings.model_fields[name]
        adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
        try:
            values[name] = adapter.validate_python(value)
        except ValidationError as error:
            metadata.warn(_PREFIX + key, f"{error.errors()[0]['msg']}; ignored")
    return values

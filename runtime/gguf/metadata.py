"""A model file's key/value pairs with typed, range-checked access."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt

from slotmux.runtime.gguf.errors import ModelFileError
from slotmux.runtime.gguf.strings import StringArray
from slotmux.runtime.gguf.values import Entry

Value: TypeAlias = int | float | bool | str | list[str] | npt.NDArray[Any]
T = TypeVar("T")
R = TypeVar("R")


class _Required(Enum):
    REQUIRED = "required"


REQUIRED: Final = _Required.REQUIRED
_RequiredType: TypeAlias = Literal[_Required.REQUIRED]

U32_MAX = (1 << 32) - 1


class Metadata(Mapping[str, Value]):
    """Read-only mapping of keys to values. The ``get_*`` methods raise ModelFileError naming
    the key when it is absent (and no default is given), of another type, or out of range."""

    def __init__(self, entries: Mapping[str, Entry], path: Path | None = None) -> None:
        self.path = path  # of the file the keys come from, for errors
        self._entries = dict(entries)
        self._decoded: dict[str, Value] = {}
        self.warnings: list[str] = []  # what was found wrong and done without

    def __getitem__(self, key: str) -> Value:
        if key not in self._decoded:
            try:
                self._decoded[key] = _decode(self._entries[key])
            except ModelFileError as error:
                error.path = self.path
                raise
        return self._decoded[key]

    def __contains__(self, key: object) -> bool:
        return key in self._entries  # Mapping's own would decode a vocabulary to find out

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def offset(self, key: str) -> int | None:
        """Where the value of ``key`` begins in the file, None if there is no such key."""
        entry = self._entries.get(key)
        return None if entry is None else entry.offset

    def refuse(self, key: str, reason: str) -> NoReturn:
        """Raise ModelFileError blaming ``key``."""
        raise ModelFileError(key, self.offset(key), reason, self.path)

    def warn(self, key: str, what: str) -> None:
        """Note, once, that something is wrong with ``key`` (or a tensor of this name) and what it
        costs."""
        line = str(ModelFileError(key, None, what, self.path))
        if line not in self.warnings:
            self.warnings.append(line)

    def tolerant(self, key: str, default: T, read: Callable[[str, T], T]) -> T:
        """``read(key, default)``; what cannot be used counts as absent, with a warning."""
        try:
            return read(key, default)
        except ModelFileError as error:
            self.warn(key, f"{error.reason}; ignored")
            return default

    def get_u32(
        self, key: str, default: T | _RequiredType = REQUIRED, low: int = 0, high: int = U32_MAX
    ) -> int | T:
        """An integer of any stored width, ``low <= value <= high``."""
        return self._checked(key, default, lambda value: _as_int(value, low, high))

    def get_f32(
        self,
        key: str,
        default: T | _RequiredType = REQUIRED,
        low: float = -math.inf,
        high: float = math.inf,
    ) -> float | T:
        """A finite float, ``low <= value <= high``."""
        return self._checked(key, default, lambda value: _as_float(value, low, high))

    def get_str(self, key: str, default: T | _RequiredType = REQUIRED) -> str | T:
        return self._checked(key, default, lambda value: _as_type(value, str, "a string"))

    def get_bool(self, key: str, default: T | _RequiredType = REQUIRED) -> bool | T:
        return self._checked(key, default, lambda value: _as_type(value, bool, "a bool"))

    def get_strings(self, key: str, default: T | _RequiredType = REQUIRED) -> list[str] | T:
        """An array of strings. The list is shared: do not change it."""
        return self._checked(
            key, default, lambda value: _as_type(value, list, "an array of strings")
        )

    def get_array(self, key: str, default: T | _RequiredType = REQUIRED) -> npt.NDArray[Any] | T:
        """An array of numbers or bools, read-only and with the file's own dtype."""
        return self._checked(
            key, default, lambda value: _as_type(value, np.ndarray, "an array of numbers")
        )

    def per_layer(
        self,
        key: str,
        n_layers: int,
        default: int | _RequiredType = REQUIRED,
        low: int = 0,
        high: int = U32_MAX,
    ) -> list[int]:
        """``n_layers`` integers, stored as one for all layers or as an array of one each."""
        value = self.get(key)
        if not isinstance(value, np.ndarray):
            return [cast(int, self.get_u32(key, default, low, high))] * n_layers
        if value.dtype.kind not in "ui":
            self.refuse(key, f"expected integers, found {_describe(value)}")
        self._check_n_layers(key, value, n_layers)
        layers = [int(item) for item in value.tolist()]
        for layer, item in enumerate(layers):
            if not low <= item <= high:
                self.refuse(key, f"layer {layer}: {item} is not between {low} and {high}")
        return layers

    def per_layer_bool(
        self, key: str, n_layers: int, default: bool | _RequiredType = REQUIRED
    ) -> list[bool]:
        """``n_layers`` bools, stored as one for all layers or as an array of one each."""
        value = self.get(key)
        if not isinstance(value, np.ndarray):
            return [cast(bool, self.get_bool(key, default))] * n_layers
        if value.dtype.kind != "b":
            self.refuse(key, f"expected bools, found {_describe(value)}")
        self._check_n_layers(key, value, n_layers)
        return cast("list[bool]", value.tolist())

    def _check_n_layers(self, key: str, value: npt.NDArray[Any], n_layers: int) -> None:
        if len(value) != n_layers:
            self.refuse(key, f"{len(value)} values for {n_layers} layers")

    def _checked(
        self, key: str, default: T | _RequiredType, convert: Callable[[Value], R]
    ) -> R | T:
        if key not in self._entries:
            if isinstance(default, _Required):
                self.refuse(key, "the key is missing")
            return default
        value = self[key]
        try:
            return convert(value)
        except _Mismatch as mismatch:
            self.refuse(key, str(mismatch))


class _Mismatch(Exception):
    """A value is not what a getter was asked for."""


def _decode(entry: Entry) -> Value:
    value = entry.value
    if isinstance(value, StringArray):
        return value.decode()
    if isinstance(value, np.ndarray) and not value.flags.aligned:
        # A header places arrays at any byte; kernels and numba want natural alignment.
        value = value.copy()
        value.flags.writeable = False
    return value


def _describe(value: Value) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype.name}"
    names = {bool: "a bool", int: "an integer", float: "a float", str: "a string"}
    return names.get(type(value), "an array of strings")


def _as_int(value: Value, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Mismatch(f"expected an integer, found {_describe(value)}")
    if not low <= value <= high:
        raise _Mismatch(f"{value} is not between {low} and {high}")
    return value


def _as_float(value: Value, low: float, high: float) -> float:
    if not isinstance(value, float):
        raise _Mismatch(f"expected a float, found {_describe(value)}")
    if not (math.isfinite(value) and low <= value <= high):
        raise _Mismatch(f"{value} is not a finite number between {low} and {high}")
    return value


def _as_type(value: Value, kind: type[T], wanted: str) -> T:
    if not isinstance(value, kind):
        raise _Mismatch(f"expected {wanted}, found {_describe(value)}")
    return value

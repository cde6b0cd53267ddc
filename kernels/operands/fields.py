"""The ways in which fields of an op may be declared, and what follows from each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields
from types import NoneType, UnionType
from typing import (
    Any,
    Generic,
    Literal,
    NewType,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

import numpy as np

from slotmux.kernels.operands.memory import Narrowed, Rows, Table, Tiles

T = TypeVar("T")
# In what form an op takes activations: float32, rounded to 8 bits, or rounded to BF16.
Form = Literal["floats", "tiles", "bf16"]
# Rows that an op takes in its ``form``: the lowering gives rows, a pass puts that in their place.
Activations = Rows | Tiles | Narrowed


@dataclass(frozen=True, slots=True)
class Declared:
    """What a field was declared as."""

    reads: bool = False
    writes: bool = False
    stride_of: str = ""
    reads_if: str = ""
    tiles_of: str = ""
    is_compiled: bool = False


def _field(declared: Declared, default: Any = MISSING, *, init: bool = True) -> Any:
    return field(default=default, init=init, metadata={"declared": declared})


def given(text: str, *, default: Any = MISSING) -> Any:
    """What no op writes: a size or a flag (its word), a float (the address of a float32), weights
    or a vector (their address, 0 for None), a Count (its address)."""
    return _field(Declared(), default)


def compiled(text: str) -> Any:
    """What the kernel's source is built with: no word, but a part of the compiled code's name."""
    return _field(Declared(is_compiled=True))


def reads(text: str, *, default: Any = MISSING, stride_of: str = "") -> Any:
    """Memory that the op reads. ``stride_of``: another field, whose rows are as far apart: no word
    for that."""
    return _field(Declared(reads=True, stride_of=stride_of), default)


def writes(text: str, *, default: Any = MISSING, stride_of: str = "", reads_if: str = "") -> Any:
    """Memory that the op writes. Rows that may be None are not written when nobody reads them.
    ``reads_if``: a flag's field; with it the op adds to what is there."""
    return _field(Declared(writes=True, stride_of=stride_of, reads_if=reads_if), default)


def updates(text: str, *, default: Any = MISSING, stride_of: str = "") -> Any:
    """Memory that the op reads and writes."""
    return _field(Declared(reads=True, writes=True, stride_of=stride_of), default)


def tiles_of(name: str, *, init: Literal[False] = False) -> Any:
    """The same as the rows of field ``name``, as 8-bit activations: a pass sets it where they are
    wanted."""
    return _field(Declared(writes=True, tiles_of=name), None, init=init)


def keeps(text: str, *, init: Literal[False] = False) -> Any:
    """The op's own part of every sequence's row, of the sizes that ``state_floats`` and
    ``pending_floats`` tell: the builder sets it."""
    return _field(Declared(reads=True, writes=True), None, init=init)


class word(Generic[T]):
    """A word that follows from other fields, as a method without arguments."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute, self.__doc__ = compute, compute.__doc__

    @overload
    def __get__(self, op: None, owner: type) -> word[T]: ...
    @overload
    def __get__(self, op: object, owner: type) -> T: ...
    def __get__(self, op: object | None, owner: type) -> word[T] | T:
        return self if op is None else self.compute(op)


@dataclass(frozen=True, slots=True)
class Operand:
    """A field or word of an op."""

    name: str
    declared: Declared
    types: tuple[type, ...]  # of values; without None
    is_optional: bool
    words: tuple[str, ...]
    dtype: Any  # of arrays, or None
    is_float: bool
    is_memory: bool  # has a span

    def check(self, op: object) -> None:
        """Raises TypeError for a value of another type."""
        value = getattr(op, self.name)
        if isinstance(value, self.types):
            array = value.array if isinstance(value, Table) else value
            if self.dtype is None or array.dtype == self.dtype:
                return
        elif (value is None and self.is_optional) or (self.is_float and type(value) is int):
            return
        kind = f"{type(value).__name__} {getattr(value, 'dtype', '')}".strip()
        raise TypeError(f"{type(op).__name__}.{self.name}: {kind} is not what it takes")

    def values(self, op: object) -> tuple[int, ...]:
        """What the words hold."""
        value = getattr(op, self.name)
        if isinstance(value, int):
            return (int(value),)
        if value is None:
            return (0,) * len(self.words)
        if isinstance(value, np.ndarray):
            return (int(value.ctypes.data),)
        if self.declared.stride_of:
            other = getattr(op, self.declared.stride_of)
            assert other is None or other.stride == value.stride
        n = len(self.words)  # tiles in the place of rows have no stride
        found: tuple[int, ...] = (*value.values, 0)[:n]
        return found


def operands_of(op: type) -> Iterator[Operand]:
    """Fields, then words that follow from them."""
    hints = get_type_hints(op)
    for each in fields(op):
        yield _operand(each.name, hints[each.name], each.metadata["declared"])
    inherited = {name: value for base in reversed(op.__mro__) for name, value in vars(base).items()}
    for name, value in inherited.items():
        if isinstance(value, word):
            yield _operand(name, get_type_hints(value.compute)["return"], Declared())


def _operand(name: str, hint: Any, declared: Declared) -> Operand:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    types: list[type] = []
    dtype = None
    for kind in kinds:
        plain = kind.__supertype__ if isinstance(kind, NewType) else get_origin(kind) or kind
        types.append(plain)
        if plain is np.ndarray:
            (dtype,) = get_args(get_args(kind)[1])
        elif plain is Table:
            (dtype,) = get_args(kind)
    real = tuple(kind for kind in types if kind is not NoneType)
    patterns: tuple[str, ...] = max((getattr(kind, "WORDS", ("{}",)) for kind in real), key=len)
    names = tuple(pattern.format(name) for pattern in patterns)
    if declared.stride_of or declared.is_compiled:
        names = names[: int(not declared.is_compiled)]
    return Operand(
        name=name,
        declared=declared,
        types=real,
        is_optional=NoneType in types,
        words=names,
        dtype=dtype,
        is_float=real == (float,),
        is_memory=any(hasattr(kind, "span") for kind in real),
    )

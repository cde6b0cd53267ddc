"""The class that ops are derived from, and the ways in which its fields may be declared."""

from __future__ import annotations

import struct
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields
from types import NoneType, UnionType
from typing import (
    Any,
    ClassVar,
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
from typing_extensions import dataclass_transform

from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands.memory import Count, Narrowed, Rows, Span, State, Table, Tiles

T = TypeVar("T")
# In what form an op takes activations: float32, rounded to 8 bits, or rounded to BF16.
Form = Literal["floats", "tiles", "bf16"]
# Rows that an op takes in its ``form``: the lowering gives rows, a pass puts that in their place.
Activations = Rows | Tiles | Narrowed
Kernel = Callable[..., None]


@dataclass(frozen=True, slots=True)
class _Declared:
    """What a field was declared as."""

    reads: bool = False
    writes: bool = False
    stride_of: str = ""
    reads_if: str = ""
    tiles_of: str = ""
    is_compiled: bool = False


def _field(declared: _Declared, default: Any = MISSING, *, init: bool = True) -> Any:
    return field(default=default, init=init, metadata={"declared": declared})


def given(text: str, *, default: Any = MISSING) -> Any:
    """What no op writes: a size or a flag (its word), a float (the address of a float32), weights
    or a vector (their address, 0 for None), a Count (its address)."""
    return _field(_Declared(), default)


def compiled(text: str) -> Any:
    """What the kernel's source is built with: no word, but a part of the compiled code's name."""
    return _field(_Declared(is_compiled=True))


def reads(text: str, *, default: Any = MISSING, stride_of: str = "") -> Any:
    """Memory that the op reads. ``stride_of``: another field, whose rows are as far apart: no word
    for that."""
    return _field(_Declared(reads=True, stride_of=stride_of), default)


def writes(text: str, *, default: Any = MISSING, stride_of: str = "", reads_if: str = "") -> Any:
    """Memory that the op writes. Rows that may be None are not written when nobody reads them.
    ``reads_if``: a flag's field; with it the op adds to what is there."""
    return _field(_Declared(writes=True, stride_of=stride_of, reads_if=reads_if), default)


def updates(text: str, *, default: Any = MISSING, stride_of: str = "") -> Any:
    """Memory that the op reads and writes."""
    return _field(_Declared(reads=True, writes=True, stride_of=stride_of), default)


def tiles_of(name: str, *, init: Literal[False] = False) -> Any:
    """The same as the rows of field ``name``, as 8-bit activations: a pass sets it where they are
    wanted."""
    return _field(_Declared(writes=True, tiles_of=name), None, init=init)


def keeps(text: str, *, init: Literal[False] = False) -> Any:
    """The op's own part of every sequence's row, of the sizes that ``state_floats`` and
    ``pending_floats`` tell: the builder sets it."""
    return _field(_Declared(reads=True, writes=True), None, init=init)


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
class _Operand:
    """A field or word of an op, as the rest of this file uses it."""

    name: str
    declared: _Declared
    types: tuple[type, ...]  # of values; without None
    is_optional: bool
    words: tuple[str, ...]
    dtype: Any  # of arrays, or None
    is_float: bool
    is_memory: bool  # has a span

    def check(self, op: Op) -> None:
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

    def values(self, op: Op) -> tuple[int, ...]:
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


@dataclass_transform(
    kw_only_default=True,
    eq_default=False,
    field_specifiers=(given, compiled, reads, writes, updates, tiles_of, keeps),
)
class Op:
    """A kernel with its operands. A subclass declares them as fields, all given by keyword, and has
    ``build`` make its kernel's source.

    ``kernel``: the compiled code's name, to which ``variant`` adds all that the source closes over.
    ``changes_step``: all ops before must be finished, and none after it begun.
    """

    name: ClassVar[str]
    changes_step: ClassVar[bool]
    operands: ClassVar[tuple[_Operand, ...]] = ()
    _given: ClassVar[tuple[_Operand, ...]] = ()
    _memory: ClassVar[tuple[_Operand, ...]] = ()
    part: str = ""  # of the program

    def __init_subclass__(cls, *, kernel: str, changes_step: bool = False) -> None:
        dataclass(kw_only=True, eq=False, repr=False)(cls)
        cls.name, cls.changes_step = kernel, changes_step
        cls.operands = tuple(_operands(cls))
        cls._given = cls.operands[: len(fields(cls))]  # type: ignore[arg-type]
        cls._memory = tuple(each for each in cls.operands if each.is_memory)

    def __post_init__(self) -> None:
        for operand in self._given:
            operand.check(self)

    # -- what a subclass says -------------------------------------------------------------

    def build(self, isa: Isa) -> Kernel:
        """The kernel's source."""
        raise NotImplementedError

    @property
    def variant(self) -> tuple[str | int, ...]:
        """Everything but the instruction set that ``build`` looks at: what was declared as
        ``compiled``, unless an op says otherwise."""
        each = (operand.name for operand in self.operands if operand.declared.is_compiled)
        return tuple(getattr(self, name) for name in each)

    @property
    def form(self) -> Form:
        """In what form fields of type Activations are taken."""
        return "floats"

    @property
    def can_quantise(self) -> bool:
        """Whether a field of ``tiles_of`` can be written with these sizes."""
        return True

    @property
    def state_floats(self) -> int:
        """Float32 of recurrent state of a sequence."""
        return 0

    @property
    def pending_floats(self) -> int:
        """Float32 that are kept of each draft."""
        return 0

    def scratch_bytes(self, isa: Isa) -> int:
        """Working memory that a thread needs."""
        return 0

    # -- what follows ---------------------------------------------------------------------

    @property
    def kernel(self) -> str:
        """The compiled code's name."""
        return ".".join((self.name, *map(str, self.variant)))

    def builder(self, isa: Isa) -> Callable[[], Kernel]:
        """``build`` as KernelCache takes it."""

        def build() -> Kernel:
            return self.build(isa)

        build.__module__ = type(self).__module__  # the cache keys a kernel by its module's sources
        return build

    @classmethod
    def word_names(cls) -> Iterator[str]:
        """Of all words, in their order."""
        for operand in cls.operands:
            yield from operand.words

    def words(self) -> np.ndarray:
        """int64: the words, and behind them the constants that some of them are addresses of."""
        values: list[int] = []
        constants: list[tuple[int, float]] = []
        for operand in self.operands:
            if operand.is_float:
                constants.append((len(values), getattr(self, operand.name)))
                values.append(0)
            elif operand.words:
                values += operand.values(self)
        n = len(values)
        values += [int.from_bytes(struct.pack("<fI", value, 0), "little") for _, value in constants]
        out = np.array(values, np.int64)
        if constants:
            address = int(out.ctypes.data)
            for i, (at, _) in enumerate(constants):
                out[at] = address + 8 * (n + i)
        return out

    def identity(self) -> tuple[Any, ...]:
        """The same for two ops that do the same with the same memory."""
        parts: list[Any] = [self.kernel]
        for operand in self.operands:
            if operand.words:
                is_float = operand.is_float
                parts.append(getattr(self, operand.name) if is_float else operand.values(self))
        return tuple(parts)

    def _reads(self, declared: _Declared) -> bool:
        return declared.reads or bool(declared.reads_if and getattr(self, declared.reads_if))

    @property
    def reads(self) -> list[Span]:
        """What the op waits for."""
        found = []
        for operand in self._memory:
            value = getattr(self, operand.name)
            if value is not None and (self._reads(operand.declared) or isinstance(value, Count)):
                span = value.span
                if span is not None:
                    found.append(span)
        return found

    @property
    def writes(self) -> list[Span]:
        """What others wait for."""
        found = []
        for operand in self._memory:
            if operand.declared.writes:
                value = getattr(self, operand.name)
                if value is not None:
                    found.append(value.span)
        return found

    def rows_read(self) -> Iterator[tuple[str, Rows, Form]]:
        """Fields of float32 rows that are read, and the form in which they are taken."""
        for operand in self._memory:
            value = getattr(self, operand.name)
            if isinstance(value, Rows) and self._reads(operand.declared):
                yield operand.name, value, self.form if Tiles in operand.types else "floats"

    def rows_written(self) -> Iterator[tuple[str, Rows]]:
        """Fields of float32 rows that are written."""
        for operand in self._memory:
            value = getattr(self, operand.name)
            if operand.declared.writes and isinstance(value, Rows):
                yield operand.name, value

    def tiles_field(self, name: str) -> str | None:
        """The field in which the rows of field ``name`` may be written as tiles."""
        for operand in self._memory:
            if operand.declared.tiles_of == name and self.can_quantise:
                return operand.name
        return None

    def may_omit(self, name: str) -> bool:
        """Whether the rows of field ``name`` need not be written."""
        return any(each.name == name and each.is_optional for each in self._memory)

    def state_field(self) -> str | None:
        """The field that ``keeps`` a state."""
        for operand in self._memory:
            if State in operand.types and operand.declared.writes:
                return operand.name
        return None


def offsets(op: type[Op]) -> Any:
    """Byte offsets of an op's words, constants for its kernel: ``load_i64(op + RMS_NORM.x)``."""
    names = tuple(op.word_names())
    return namedtuple(op.__name__, names)(*(8 * i for i in range(len(names))))  # type: ignore[misc]


def _operands(op: type[Op]) -> Iterator[_Operand]:
    """Fields, then words that follow from them."""
    hints = get_type_hints(op)
    for each in fields(op):  # type: ignore[arg-type]
        yield _operand(each.name, hints[each.name], each.metadata["declared"])
    for name, value in vars(op).items():
        if isinstance(value, word):
            yield _operand(name, get_type_hints(value.compute)["return"], _Declared())


def _operand(name: str, hint: Any, declared: _Declared) -> _Operand:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    types, dtype = [], None
    for kind in kinds:
        plain = kind.__supertype__ if isinstance(kind, NewType) else get_origin(kind) or kind
        types.append(plain)
        if plain is np.ndarray:
            (dtype,) = get_args(get_args(kind)[1])
        elif plain is Table:
            (dtype,) = get_args(kind)
    real = tuple(kind for kind in types if kind is not NoneType)
    patterns = max((getattr(kind, "WORDS", ("{}",)) for kind in real), key=len)
    names = tuple(pattern.format(name) for pattern in patterns)
    if declared.stride_of or declared.is_compiled:
        names = names[: int(not declared.is_compiled)]
    return _Operand(
        name=name,
        declared=declared,
        types=real,
        is_optional=NoneType in types,
        words=names,
        dtype=dtype,
        is_float=real == (float,),
        is_memory=any(hasattr(kind, "span") for kind in real),
    )

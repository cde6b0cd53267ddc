"""The class that ops are derived from."""

from __future__ import annotations

import struct
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import dataclass_transform

from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands.fields import (
    Declared,
    Form,
    Operand,
    compiled,
    given,
    keeps,
    operands_of,
    reads,
    tiles_of,
    updates,
    writes,
)
from slotmux.kernels.operands.memory import Count, Rows, Span, State, Tiles

Kernel = Callable[..., None]


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
    operands: ClassVar[tuple[Operand, ...]] = ()
    is_of_step: ClassVar[bool] = False  # nothing is read that other ops write
    _given: ClassVar[tuple[Operand, ...]] = ()
    _memory: ClassVar[tuple[Operand, ...]] = ()
    part: str = ""  # of the program

    def __init_subclass__(cls, *, kernel: str, changes_step: bool = False) -> None:
        dataclass(kw_only=True, eq=False, repr=False)(cls)
        cls.name, cls.changes_step = kernel, changes_step
        cls.operands = tuple(operands_of(cls))
        cls._given = cls.operands[: len(fields(cls))]  # type: ignore[arg-type]
        cls._memory = tuple(each for each in cls.operands if each.is_memory)
        is_read = (each.declared.reads or Count in each.types for each in cls.operands)
        cls.is_of_step = bool(cls.operands) and not any(is_read)

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

    def words(self) -> NDArray[np.int64]:
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

    def _reads(self, declared: Declared) -> bool:
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

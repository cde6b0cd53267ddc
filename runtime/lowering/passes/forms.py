"""In which forms an op writes its rows: as float32, as 8-bit activations, or both.

Whoever reads rows says in what form (Op.form): products with quantised weights take 8 bits. An op
that can write them so is told to, and need not write floats that nobody reads; behind any other
stands an op of its own, which makes the form once for all who read it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import Form, Narrowed, Op, Rows, Span, Tiles
from slotmux.kernels.ops.dense.narrow import Narrow, narrow_width
from slotmux.kernels.ops.dense.quantize import Quantize
from slotmux.runtime.lowering.buffers import Buffers

Made = Tiles | Narrowed


def choose_forms(
    ops: Sequence[Op], buffers: Buffers, isa: Isa, kept: Collection[str] = ()
) -> list[Op]:
    """The ops with the forms that they need of each other's rows. Float rows that no op reads stay,
    as a result of the program, and so do those of the buffers ``kept``."""
    forms = _Forms(ops, buffers, isa)
    for i, op in enumerate(ops):
        for name, rows, form in list(op.rows_read()):
            if form == "floats":
                forms.want_floats(rows)
            else:
                setattr(op, name, forms.made(i, rows, form))
        for name, rows in op.rows_written():
            forms.write(_Value(op, name, rows, rows.span, i))
    forms.omit_floats(kept)
    return list(forms.ops())


@dataclass(slots=True, eq=False)
class _Value:
    """Rows as op ``at`` of the list left them in its field ``name``."""

    op: Op
    name: str
    rows: Rows
    span: Span
    at: int
    n_floats: int = 0  # who reads them as floats
    n_forms: int = 0  # who reads them in another form


class _Forms:
    """What stands in the buffers while one goes through the ops."""

    def __init__(self, ops: Sequence[Op], buffers: Buffers, isa: Isa) -> None:
        self._ops, self._buffers, self._isa = ops, buffers, isa
        self._values: list[_Value] = []
        self._standing: dict[str, list[_Value]] = defaultdict(list)
        self._made: dict[str, dict[tuple[Form, Rows], Made]] = defaultdict(dict)
        self._before: dict[int, list[Op]] = defaultdict(list)  # ops that make a form

    def _sources(self, rows: Rows) -> list[_Value]:
        span = rows.span
        return [value for value in self._standing[rows.buffer] if value.span.overlaps(span)]

    def want_floats(self, rows: Rows) -> list[_Value]:
        """Somebody reads them as they are. Returns what they were made of."""
        sources = self._sources(rows)
        for value in sources:
            value.n_floats += 1
        return sources

    def write(self, value: _Value) -> None:
        """Rows are overwritten, in part or whole; with them their forms."""
        buffer, span = value.rows.buffer, value.span
        standing = [each for each in self._standing[buffer] if not span.covers(each.span)]
        self._standing[buffer] = [*standing, value]
        made = self._made[buffer]
        for key in [key for key in made if key[1].span.overlaps(span)]:
            del made[key]
        self._values.append(value)

    def made(self, i: int, rows: Rows, form: Form) -> Made:
        """The rows in the form that op ``i`` takes."""
        made = self._made[rows.buffer]
        if (form, rows) not in made:
            made[form, rows] = self._written_by_source(rows, form) or self._appended(i, rows, form)
        return made[form, rows]

    def _written_by_source(self, rows: Rows, form: Form) -> Tiles | None:
        """From the op that makes the rows, if it can."""
        sources = self._sources(rows)
        if form != "tiles" or len(sources) != 1 or sources[0].span != rows.span:
            return None
        (value,) = sources
        field = value.op.tiles_field(value.name)
        if field is None:
            return None
        tiles = self._buffers.tiles(rows)
        setattr(value.op, field, tiles)
        value.n_forms += 1
        return tiles

    def _appended(self, i: int, rows: Rows, form: Form) -> Made:
        """From an op of its own, behind the last that makes a part of the rows."""
        sources = self.want_floats(rows)
        last = max(sources, key=lambda value: value.at, default=None)
        made: Made
        op: Op
        if form == "tiles":
            made = self._buffers.tiles(rows)
            op = Quantize(x=rows, tiles=made)
        else:
            made = self._buffers.narrowed(rows, narrow_width(self._isa, rows.width))
            op = Narrow(x=rows, out=made)
        op.part = self._ops[i if last is None else last.at].part
        self._before[i if last is None else last.at + 1].append(op)
        return made

    def omit_floats(self, kept: Collection[str]) -> None:
        """Tell ops what they need not write."""
        for value in self._values:
            is_unread = value.n_forms and not value.n_floats and value.rows.buffer not in kept
            if is_unread and value.op.may_omit(value.name):
                setattr(value.op, value.name, None)

    def ops(self) -> Iterator[Op]:
        """All, in their order."""
        for i, op in enumerate(self._ops):
            yield from self._before[i]
            yield op
        yield from self._before[len(self._ops)]

"""How an op declares what it reads, writes and needs, and how its kernel finds that.

A class derived from Op stands beside the kernel, in one file with it. Each of its fields says what
an operand is: its type here or in the words of NumPy, its shape in the text. From the declaration
follow the int64 words that the kernel reads (``offsets``), what other ops must wait for, and
what mypy refuses in the lowering.
"""

from slotmux.kernels.operands.fields import (
    Activations,
    Form,
    compiled,
    given,
    keeps,
    reads,
    tiles_of,
    updates,
    word,
    writes,
)
from slotmux.kernels.operands.memory import (
    ANY_ROWS,
    Address,
    Cells,
    Count,
    Narrowed,
    Rows,
    Span,
    State,
    StatePool,
    Table,
    Tiles,
    Vector,
    round_up,
)
from slotmux.kernels.operands.op import Op, offsets
from slotmux.kernels.operands.words import STEP, fill, words

__all__ = [
    "ANY_ROWS",
    "STEP",
    "Activations",
    "Address",
    "Cells",
    "Count",
    "Form",
    "Narrowed",
    "Op",
    "Rows",
    "Span",
    "State",
    "StatePool",
    "Table",
    "Tiles",
    "Vector",
    "compiled",
    "fill",
    "given",
    "keeps",
    "offsets",
    "reads",
    "round_up",
    "tiles_of",
    "updates",
    "word",
    "words",
    "writes",
]

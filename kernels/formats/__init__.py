"""Weight formats as panels of 16 output rows. Codes, scales and values are the file's: packing
changes their places only."""

from slotmux.kernels.formats import floats, iq, k_quants, legacy, tables, ternary
from slotmux.kernels.formats.base import PANEL_ROWS, QUANT_BLOCK, Format, SubBlock
from slotmux.kernels.formats.floats import float_vectors

FORMATS = {
    f.name: f for group in (legacy, k_quants, tables, ternary, iq, floats) for f in group.FORMATS
}

__all__ = ["FORMATS", "PANEL_ROWS", "QUANT_BLOCK", "Format", "SubBlock", "float_vectors"]

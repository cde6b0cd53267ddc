"""Rows that are computed together: tiles of 1, 2, 4 and 8 rows are compiled, the lowest that has
enough is taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba import njit

HEIGHTS = (1, 2, 4, 8)


@njit
def tile_height(n_rows):
    """Rows computed together: a power of two up to 8; rows behind the last are computed and
    never read (buffers have room for whole tiles)."""
    if n_rows > 4:
        return 8
    return 4 if n_rows > 2 else n_rows


def by_height(tiles: Sequence[Any]) -> Any:
    """A function (n_rows, arguments) that calls the one of ``tiles``, which are for HEIGHTS, that
    up to 8 rows need."""
    tile1, tile2, tile4, tile8 = tiles

    @njit
    def tile(n_rows, arguments):
        if n_rows > 4:
            tile8(*arguments)
        elif n_rows > 2:
            tile4(*arguments)
        elif n_rows == 2:
            tile2(*arguments)
        else:
            tile1(*arguments)

    return tile

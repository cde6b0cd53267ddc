"""Formats with 32 inputs to a block and float16 scales: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0."""

from __future__ import annotations

from typing import Any

from numba import njit

from slotmux.kernels.address import load_i32, load_u8
from slotmux.kernels.formats.planes import PlaneDecoder, plane_format


def plain_scale(b: Any, halves: list[Any], small: Any) -> tuple[list[Any], list[Any]]:
    return halves[:1], []


def _scale_and_minimum(b: Any, halves: list[Any], small: Any) -> tuple[list[Any], list[Any]]:
    return halves[:1], halves[1:]


@njit(forceinline=True)
def nibble(values, i):
    """Code i of 32: low halves of 16 bytes, then their high halves."""
    byte = load_u8(values + i % 16)
    return byte & 15 if i < 16 else byte >> 4


@njit
def _q4_0(source, i):
    return nibble(source + 2, i)


@njit
def _q4_1(source, i):
    return nibble(source + 4, i)


@njit
def _q5_0(source, i):
    return nibble(source + 6, i) | ((load_i32(source + 2) >> i) & 1) << 4


@njit
def _q5_1(source, i):
    return nibble(source + 8, i) | ((load_i32(source + 4) >> i) & 1) << 4


@njit
def _q8_0(source, i):
    return load_u8(source + 2 + i) ^ 128


def _decoder(planes: tuple[int, ...], n_halves: int) -> PlaneDecoder:
    return PlaneDecoder(
        planes, 1, 0, n_halves, plain_scale if n_halves == 1 else _scale_and_minimum
    )


FORMATS = (
    plane_format("q4_0", 32, 18, _decoder((4,), 1), _q4_0, halves=(0,), offset=8),
    plane_format("q4_1", 32, 20, _decoder((4,), 2), _q4_1, halves=(0, 2), has_minimum=True),
    plane_format("q5_0", 32, 22, _decoder((4, 1), 1), _q5_0, halves=(0,), offset=16),
    plane_format("q5_1", 32, 24, _decoder((4, 1), 2), _q5_1, halves=(0, 2), has_minimum=True),
    plane_format("q8_0", 32, 34, _decoder((8,), 1), _q8_0, halves=(0,), offset=128),
)

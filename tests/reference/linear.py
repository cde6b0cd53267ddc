"""Plain NumPy twins: 8-bit activations, weights in panels, and their products."""

from __future__ import annotations

import gguf
import numpy as np

PANEL_ROWS, BLOCK, TILE_ROWS, TILE_BLOCK_BYTES = 16, 32, 8, 416
SCALED = 16  # inputs with one scale
TYPES = {
    name: gguf.GGMLQuantizationType[name.upper()]
    for name in ("q4_0", "q4_1", "q8_0", "f16", "bf16", "f32")
}
OFFSETS = {"q4_0": 8, "q4_1": 0, "q8_0": 128}


def random_weight(name, n, k, rng):
    """[n, bytes of a row] as in a file, and the float32 weights [n, k] that it stands for."""
    values = rng.normal(size=(n, k)).astype(np.float32)
    raw = gguf.quants.quantize(values, TYPES[name]).view(np.uint8).reshape(n, -1)
    return raw, dequantised(name, raw)


def dequantised(name, raw):
    """[n, k] float32, by the gguf package."""
    return gguf.quants.dequantize(raw, TYPES[name]).astype(np.float32).reshape(len(raw), -1)


def codes(name, raw):
    """Unsigned codes [n, k], scales [n, k / 32] and minima (or None) of a quantised weight."""
    n = len(raw)
    size = {"q4_0": 18, "q4_1": 20, "q8_0": 34}[name]
    blocks = raw.reshape(n, -1, size)
    head = 4 if name == "q4_1" else 2
    scales = np.ascontiguousarray(blocks[..., :2]).view(np.float16)[..., 0]
    minima = None
    if name == "q4_1":
        minima = np.ascontiguousarray(blocks[..., 2:4]).view(np.float16)[..., 0]
    body = blocks[..., head:]
    if name == "q8_0":
        return (body ^ 128).reshape(n, -1), scales, minima
    both = np.concatenate([body & 15, body >> 4], axis=-1)
    return both.reshape(n, -1), scales, minima


def bf16_rows(x):
    """float32 rounded to BF16, ties to even, below 2^-56 to zero: the upper halves of its bits."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    upper = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    upper[(upper & 0x7FFF) < (127 - 56) << 7] = 0
    return upper


def bf16_values(x):
    """The same as float32."""
    return (bf16_rows(x).astype(np.uint32) << 16).view(np.float32)


def packed(name, raw):
    """The bytes of all panels; rows past the last are zero weights."""
    n = len(raw)
    n_padded = -(-n // PANEL_ROWS) * PANEL_ROWS
    if name in ("f32", "f16", "bf16"):
        values = raw.view(np.uint32 if name == "f32" else np.uint16)
        padded = np.zeros((n_padded, values.shape[1]), values.dtype)
        padded[:n] = values
        n_inputs = 2 if name == "bf16" else 1  # of a block
        blocks = padded.reshape(-1, PANEL_ROWS, values.shape[1] // n_inputs, n_inputs)
        return blocks.transpose(0, 2, 1, 3).tobytes()
    quants, scales, minima = codes(name, raw)
    k = quants.shape[1]
    padded = np.zeros((n_padded, k), np.uint8)  # their scales are zero
    padded[:n] = quants
    # panel, row, block, group, byte -> panel, block, group, row, byte
    groups = padded.reshape(-1, PANEL_ROWS, k // BLOCK, 8, 4).transpose(0, 2, 3, 1, 4)
    groups = groups.reshape(groups.shape[0], k // BLOCK, 8, 64)
    if name != "q8_0":
        groups = groups[:, :, 0::2] | groups[:, :, 1::2] << 4
    parts = []
    for row_values in (scales, minima):
        if row_values is not None:
            whole = np.zeros((n_padded, k // BLOCK), np.float16)
            whole[:n] = row_values
            by_block = whole.reshape(-1, PANEL_ROWS, k // BLOCK).transpose(0, 2, 1)
            parts.append(np.ascontiguousarray(by_block).view(np.uint8))
    parts.append(groups.reshape(*groups.shape[:2], -1))
    return np.concatenate(parts, axis=-1).tobytes()


def quantised_rows(x):
    """Codes int8 [t, k], and per 16 inputs scales and sums of codes [t, k / 16] of float32 rows."""
    blocks = x.reshape(len(x), -1, SCALED)
    largest = np.abs(blocks).max(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inverse = np.where(largest > 1e-36, np.float32(127) / largest, np.float32(0))
    quants = np.rint(blocks * inverse[..., None].astype(np.float32))
    scales = largest * np.float32(1 / 127)
    return quants.astype(np.int8).reshape(len(x), -1), scales, quants.sum(axis=-1)


def rounded_rows(x):
    """What 8-bit activations keep of float32 rows, in float64."""
    quants, scales, _ = quantised_rows(x)
    return (quants.reshape(*scales.shape, -1) * scales[..., None].astype(np.float64)).reshape(
        x.shape
    )


def tiles(x):
    """The bytes of activation tiles; rows past the last are zeros."""
    n_tiles = -(-len(x) // TILE_ROWS)
    n_blocks = x.shape[1] // BLOCK
    quants, scales, sums = quantised_rows(x)
    scaled = scales * sums.astype(np.float32)
    offsets = (-8 * sums).astype(np.int32)
    out = np.zeros((n_tiles, n_blocks, TILE_BLOCK_BYTES), np.uint8)
    for t in range(len(x)):
        tile, row = out[t // TILE_ROWS], t % TILE_ROWS
        groups = quants[t].view(np.uint8).reshape(n_blocks, 8, 4)
        tile[:, :256].reshape(n_blocks, 8, TILE_ROWS, 4)[:, :, row] = groups
        low, high = slice(0, None, 2), slice(1, None, 2)
        parts = [scales[t, low], scales[t, high], scaled[t, low] + scaled[t, high]]
        parts += [offsets[t, low], offsets[t, high]]
        for start, values in zip(range(256, TILE_BLOCK_BYTES, 32), parts, strict=True):
            place = tile[:, start + 4 * row : start + 4 * row + 4]
            place[:] = np.ascontiguousarray(values).view(np.uint8).reshape(n_blocks, 4)
    return out


def product(name, raw, x):
    """x [t, k] times the weight [n, k] with the kernel's rounding of x, in float64: [t, n]."""
    weight = dequantised(name, raw).astype(np.float64)
    if name == "bf16":
        x = bf16_values(x)
    if name in OFFSETS:
        x = rounded_rows(x)
    return x.astype(np.float64) @ weight.T


def magnitude(name, raw, x):
    """Sum of |x * w| for each output: what rounding errors are measured by."""
    return np.abs(x).astype(np.float64) @ np.abs(dequantised(name, raw)).astype(np.float64).T

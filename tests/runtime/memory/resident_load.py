"""A process that fills its prefix cache over and over: prints the limit in bytes, and after each
request by how many its resident memory has grown. Arguments: the kind of model, bytes of cache."""

from __future__ import annotations

import os
import sys
from random import Random

import numpy as np

from slotmux.runtime.lowering.cells import KVCells
from slotmux.runtime.lowering.rows import StateRows
from slotmux.runtime.memory import Memory
from slotmux.runtime.memory.prefix_tree import NODE_BYTES, STATE_BYTES
from slotmux.runtime.ubatch import Ubatch

N_SLOTS, N_CTX = 3, 4096
N_READY = 512
# Layers with cells, and floats of a state.
KINDS = {"dear states": (3, 500_000), "cheap states": (3, 20_000), "cells": (3, 0)}


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def pools(kind: str, cache_bytes: int) -> tuple[KVCells, StateRows]:
    n_layers, n_state = KINDS[kind]
    is_elastic = n_state > 0
    block = n_layers * 2 * 2 * 16 * 32 * 2 + NODE_BYTES
    cells = KVCells(N_READY, "f16", "f16", cache_bytes // block, is_elastic=is_elastic)
    for layer in range(n_layers):
        cells.layer(layer, 2, 32, 32)
    n_ready = cache_bytes // 2 // (4 * n_state + STATE_BYTES + 4096) if n_state else 0
    rows = StateRows(N_SLOTS + n_ready, 0, 400 if is_elastic else 0, is_elastic=is_elastic)
    if n_state:
        rows.reserve(n_state, 0)
        rows.make()
    cells.touch()
    return cells, rows


def write(cells: KVCells, rows: StateRows, table: list[int], row: int) -> None:
    """Every page, as a forward would."""
    cells.write_blocks(table, np.full((len(table), cells.block_bytes), 7, np.uint8))
    if row >= 0:
        rows.write_row(row, np.full(rows.row_bytes, 7, np.uint8))


def main() -> None:
    kind, cache_bytes = sys.argv[1], int(sys.argv[2])
    rng = Random(1)
    stems = np.random.default_rng(1).integers(0, 1000, (60, N_CTX), np.int32)
    n_before = resident()
    cells, rows = pools(kind, cache_bytes)
    ubatch = Ubatch(512, N_SLOTS, N_CTX // 16, 16)
    memory = Memory(cells, rows, ubatch, n_ctx=N_CTX, cache_bytes=cache_bytes)
    print(memory.pools.budget.limit)
    grown, n_opened = [], 0
    for turn in range(160):
        seq = memory.sequences[turn % N_SLOTS]
        if seq.is_open:
            seq.release()
        n = rng.choice((200, 1000, 2000))
        seq.history[: n // 2] = rng.choice(stems)[: n // 2]
        seq.history[n // 2 : n] = rng.choice(stems)[n // 2 : n]
        if memory.open(seq, n, "") is None:
            continue
        n_opened += 1
        while seq.n_computed < n:
            step = min(256, n - seq.n_computed)
            if not seq.reserve(step):
                break
            write(cells, rows, seq.table[seq.n_computed // 16 :], seq.row)
            seq.commit(step)
            seq.checkpoint()
        memory.check_integrity()
        grown.append(resident() - n_before)
    assert n_opened > 50
    print(*grown)


if __name__ == "__main__":
    main()

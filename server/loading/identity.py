"""A name for a model and what its memory looks like here: cells and states that were kept under one
name are gone on from under it only.

It is made of the model's content, of what shapes cells and states, and of the numeric path: the
version of the kernels' bits, and what this machine makes of a few tokens, to the bit.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slotmux.kernels.bits_version import BITS_VERSION
from slotmux.runtime.driver import Driver
from slotmux.runtime.gguf import GGUFFile
from slotmux.runtime.interfaces import ModelLike
from slotmux.runtime.lowered import ModelConfig
from slotmux.runtime.ubatch import BLOCK_CELLS

_CHUNK_BYTES = 16 * 2**20
_N_PROBE = 2 * BLOCK_CELLS  # tokens
_LAYOUT = "1"  # of what Memory keeps; raised when cells or states mean something else


def model_identity(file: GGUFFile, config: ModelConfig, model: ModelLike, cache: Path) -> str:
    """Hexadecimal. Computes a few tokens, so nothing may run on the model yet; digests of files are
    kept in ``cache``, since a large one takes a while."""
    shape = (config.cache_type_k, config.cache_type_v, config.max_drafts, config.use_mtp)
    parts = (
        _LAYOUT, BITS_VERSION, file.architecture, repr(shape), str(BLOCK_CELLS),
        *(_content(path, cache) for path in file.paths), numeric_path(model),
    )  # fmt: skip
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def numeric_path(model: ModelLike) -> str:
    """A digest of cells, state and logits after a few tokens, as this machine computes them."""
    driver = Driver(model)
    n = min(_N_PROBE, driver.n_ctx) // BLOCK_CELLS * BLOCK_CELLS
    tokens = [(7 + 31 * i) % model.n_vocab for i in range(n)]
    seq = driver.memory.sequences[0]
    digest = hashlib.sha256()
    driver.open(0)
    for begin in range(0, n, model.ubatch.n_ubatch):
        run = tokens[begin : begin + model.ubatch.n_ubatch]
        logits = driver.feed([(0, run)], outputs="last")
        if begin + len(run) == n:  # however many it took
            digest.update(logits.data)
    pools = driver.memory.pools
    if pools.has_blocks:
        digest.update(pools.blocks.read(seq.table).data)
    if pools.has_rows:
        digest.update(pools.rows.read(seq.row).data)
    driver.close(0)
    return digest.hexdigest()


def _content(path: Path, cache: Path) -> str:
    """The digest of a file; remembered for as long as the file is not touched."""
    info = path.stat()
    seen = (str(path.resolve()), info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
    note = cache / hashlib.sha256(repr(seen).encode()).hexdigest()[:32]
    with contextlib.suppress(OSError, UnicodeDecodeError):
        known = note.read_text("ascii")
        if len(known) == 64:
            return known
    found = _digest(path, info.st_size)
    with contextlib.suppress(OSError):  # then it is computed again
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = note.with_suffix(".part")
        part.write_text(found, "ascii")
        part.replace(note)
    return found


def _digest(path: Path, n_bytes: int) -> str:
    """Of the digests of the file's pieces, which two threads compute."""

    def piece(begin: int) -> bytes:
        with path.open("rb") as stream:
            stream.seek(begin)
            return hashlib.sha256(stream.read(_CHUNK_BYTES)).digest()

    begins: Sequence[int] = range(0, max(1, n_bytes), _CHUNK_BYTES)
    with ThreadPoolExecutor(2) as pool:
        return hashlib.sha256(b"".join(pool.map(piece, begins))).hexdigest()

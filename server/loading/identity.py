"""A name for a model and the shape of its memory: what is saved under one is read under it only."""

from __future__ import annotations

import hashlib

from slotmux.runtime.gguf import GGUFFile
from slotmux.runtime.lowered import ModelConfig

_N_SAMPLES = 64  # of each file: enough to tell two trainings of one architecture apart
_SAMPLE_BYTES = 16 * 1024


def model_identity(file: GGUFFile, config: ModelConfig) -> str:
    """Made of samples all over the model's files, and of what shapes cells and states."""
    shape = (config.cache_type_k, config.cache_type_v, config.max_drafts, config.use_mtp)
    digest = hashlib.sha256(repr((file.architecture, *shape)).encode())
    for path in file.paths:
        n_bytes = path.stat().st_size
        digest.update(str(n_bytes).encode())
        step = max(_SAMPLE_BYTES, n_bytes // _N_SAMPLES)
        with path.open("rb") as stream:
            for begin in range(0, n_bytes, step):
                stream.seek(begin)
                digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()

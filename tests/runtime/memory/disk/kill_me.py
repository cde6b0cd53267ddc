"""A server without HTTP, to be killed while it spills: python -m tests.runtime.memory.disk.kill_me
MODEL KERNELS FOLDER SEED. Writes are slow, so that most kills cut one off.

It goes on with old conversations and begins new ones, for ever; each answer is a line:
conversation, turn, tokens from disk, digest of the answer's bits.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from slotmux.runtime.engine.thread import Engine, EngineConfig
from slotmux.runtime.memory.disk import files
from slotmux.runtime.memory.disk.spill import Times
from slotmux.runtime.memory.disk.store import Store
from slotmux.runtime.model import ModelConfig, load_model
from tests.runtime.engine.crowd import Answer, Call, IdDetokenizer, IdTokenizer, request_of
from tests.runtime.models.isolation import poison

IDENTITY = "ef" * 32
N_CTX, N_TURNS = 256, 3
N_NEW = 12  # conversations of each server
N_VOCAB = 300


def turns_of(conversation: int) -> list[list[int]]:
    """What its user says in each turn; a function of its number."""
    rng = Random(conversation)
    return [[rng.randrange(N_VOCAB) for _ in range(n)] for n in (70, 20, 20)]


def digest_of(answer: Answer) -> str:
    """Of everything that a client sees."""
    assert answer.error is None, answer.error
    return hashlib.sha256(repr(answer.bits).encode()).hexdigest()[:16]


def play(engine: Engine, conversation: int) -> Iterator[tuple[int, Answer]]:
    """Its turns, one after the other."""
    history: list[int] = []
    for turn, said in enumerate(turns_of(conversation)):
        history += said
        (answer,) = Call(engine, request_of(history, max_tokens=6, ignore_eos=True)).wait()
        yield turn, answer
        history += answer.tokens


def made(path: Path, kernels: Path, folder: Path | None) -> Engine:
    """A started engine on poisoned memory; ``folder``: of a tier on disk."""
    config = ModelConfig(
        n_threads=1, n_ctx=1024, n_slots=2, n_ubatch=64, n_checkpoints=4, kernel_cache=kernels
    )
    model = load_model(path, config)
    poison(model)
    resolved = EngineConfig(2, N_CTX, poison_freed=True, checkpoint_spacing=16)
    store = Store(folder, 1 << 24, IDENTITY) if folder is not None else None
    engine = Engine(model, IdTokenizer(), resolved, new_detokenizer=IdDetokenizer, store=store)
    tier = engine._core.tier
    if tier is not None:
        tier.times = tier._spill._times = Times(0.0, 0.0, 0.002, 0.02, 5.0)
    engine.start()
    return engine


def _write_slowly(handle: int, data: memoryview) -> None:
    while data:
        data = data[os.write(handle, data[:512]) :]
        time.sleep(0.0005)


def main(path: str, kernels: str, folder: str, seed: str) -> None:
    files._write_all = _write_slowly  # type: ignore[assignment]
    engine = made(Path(path), Path(kernels), Path(folder))
    tier = engine._core.tier
    assert tier is not None
    assert tier.settle()
    engine._core.scheduler.pace.token_s = 1.0  # what is on disk is always read
    rng = Random(int(seed))
    print("ready", flush=True)
    while True:
        # Old ones, of other servers too, and others that are new.
        begin = rng.choice([0, 0, N_NEW * (1 + int(seed))])
        conversation = begin + rng.randrange(N_NEW)
        for turn, answer in play(engine, conversation):
            assert answer.usage is not None
            print(conversation, turn, answer.usage.n_disk, digest_of(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

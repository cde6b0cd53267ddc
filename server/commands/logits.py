"""`slotmux logits`: the logits of every position, for comparing with other runtimes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from slotmux.runtime.driver import Driver
from slotmux.runtime.engine.config import MTP
from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.interfaces import ModelLike
from slotmux.runtime.models import has_mtp
from slotmux.server.commands.flags import takes_settings
from slotmux.server.commands.options import ModelArg, option
from slotmux.server.loading.errors import CommandError
from slotmux.server.loading.locate import locate
from slotmux.server.settings import Settings


@takes_settings("ubatch_size", "threads", "isa", "cache_type_k", "cache_type_v")
def logits(
    settings: Settings,
    model: ModelArg,
    tokens: Annotated[str, option("--tokens", help="Token ids as a JSON list: '[1,2,3]'.")],
    out: Annotated[Path, option("--out", "-o", help="NumPy file to write.", dir_okay=False)],
    mtp: Annotated[
        bool,
        option(
            "--mtp",
            help="Logits of the block for multi-token prediction instead: row p, from token p and"
            " the trunk's hidden state before it, is about token p + 1.",
        ),
    ] = False,
) -> None:
    """Write the float32 logits of every position of a token list, [n_tokens, n_vocab], as .npy.

    The tokens are computed from position 0 exactly as given: no BOS is added.
    """
    ids = _parse_tokens(tokens)
    from slotmux.server.loading.load import load
    from slotmux.server.loading.plan import Sequences, make_plan

    choice: dict[str, object] = {"ubatch_size": min(settings.n_ubatch, len(ids))}
    file = open_gguf(locate(model, settings))
    if mtp:
        if not has_mtp(file):
            raise CommandError("--mtp: the model has no block for multi-token prediction")
        choice |= {"spec_type": (MTP,), "spec_draft_n_max": 1}
    settings = settings.model_copy(update=choice)
    loaded = load(make_plan(settings, file, Sequences(1, len(ids), n_outputs=settings.n_ubatch)))
    try:
        if mtp and loaded.drafter is None:
            raise CommandError("--mtp: the model's block for multi-token prediction is damaged")
        outside = [i for i in ids if not 0 <= i < loaded.n_vocab]
        if outside:
            raise typer.BadParameter(
                f"token {outside[0]} is not in a vocabulary of {loaded.n_vocab}"
            )
        write_logits(loaded, ids, out, mtp=mtp)
    finally:
        loaded.close()
    Console(stderr=True).print(f"{out}: float32 [{len(ids)}, {loaded.n_vocab}]", highlight=False)


def write_logits(model: ModelLike, tokens: list[int], out: Path, *, mtp: bool = False) -> None:
    """Compute a sequence from its start and write logits as they come: the whole table of a long
    sequence need not fit in memory."""
    parts = _guesses(model, tokens) if mtp else _logits(model, tokens)
    shape = (len(tokens), model.n_vocab)
    with out.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for rows in parts:
            file.write(np.ascontiguousarray(rows, "<f4").tobytes())


def _logits(model: ModelLike, tokens: list[int]) -> Iterator[NDArray[np.float32]]:
    """The trunk's, an ubatch at a time."""
    driver = Driver(model, n_ctx=len(tokens))
    driver.open(0)
    n_step = min(model.ubatch.n_ubatch, model.ubatch.max_outputs)
    for start in range(0, len(tokens), n_step):
        yield driver.feed([(0, tokens[start : start + n_step])])
    driver.close(0)


def _guesses(model: ModelLike, tokens: list[int]) -> Iterator[NDArray[np.float32]]:
    """Those of the block for multi-token prediction, token by token."""
    assert model.drafter is not None
    driver = Driver(model, n_ctx=len(tokens))
    driver.open(0)
    for token in tokens:
        driver.guess([(0, 1, token)])
        yield model.drafter.logits[:1]
        driver.step([(0, [token])], outputs="none")
    driver.close(0)


def _parse_tokens(text: str) -> list[int]:
    try:
        ids = json.loads(text)
    except ValueError:
        ids = None
    if not isinstance(ids, list) or not ids or any(type(i) is not int for i in ids):
        raise typer.BadParameter("--tokens takes a JSON list of integers, such as '[1,2,3]'")
    return ids

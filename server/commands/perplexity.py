"""`slotmux perplexity`: how well a model predicts a text; equal however sequences are packed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from slotmux.runtime.driver import Driver
from slotmux.runtime.gguf import GGUFFile, open_gguf
from slotmux.runtime.interfaces import ModelLike
from slotmux.server.commands.flags import takes_settings
from slotmux.server.commands.options import JsonOpt, ModelArg, argument, option
from slotmux.server.loading.errors import CommandError
from slotmux.server.loading.locate import locate
from slotmux.server.settings import Settings


@takes_settings("ubatch_size", "threads", "isa", "cache_type_k", "cache_type_v")
def perplexity(
    settings: Settings,
    model: ModelArg,
    file: Annotated[Path, argument("FILE", "UTF-8 text.", exists=True, dir_okay=False)],
    ctx: Annotated[int, option("--ctx", "-c", min=2, help="Tokens of one sequence.")] = 512,
    sequences: Annotated[
        int, option("--sequences", "-s", min=1, help="Sequences computed together.")
    ] = 4,
    as_json: JsonOpt = False,
) -> None:
    """Print the perplexity of a text.

    The text is cut into sequences of --ctx tokens, each computed from its own start; every token
    but a sequence's first is scored. The value does not depend on --sequences or --ubatch-size.
    """
    from slotmux.server.loading.load import load
    from slotmux.server.loading.plan import Sequences, make_plan

    weights = open_gguf(locate(model, settings))
    chunks = _chunks(weights, file, ctx)
    n_seqs, n_tokens = min(sequences, len(chunks)), max(len(chunk) for chunk in chunks)
    room = Sequences(n_seqs, n_tokens, n_outputs=settings.n_ubatch)
    loaded = load(make_plan(settings, weights, room))
    say = Console(stderr=True).print
    try:
        n_chunks = len(chunks)
        logprobs = score(loaded, chunks, n_seqs, lambda n: say(f"{n} of {n_chunks} sequences"))
    finally:
        loaded.close()
    _report(np.concatenate(logprobs), n_chunks, ctx, as_json)


def score(
    model: ModelLike, chunks: list[list[int]], n_seqs: int, progress: Callable[[int], None]
) -> list[NDArray[np.float64]]:
    """Log-probabilities of the tokens of each chunk but its first, ``n_seqs`` chunks at a time."""
    driver = Driver(model, n_ctx=max(len(chunk) for chunk in chunks))
    n_step = min(model.ubatch.n_ubatch, model.ubatch.max_outputs)
    results: list[NDArray[np.float64]] = []
    for first in range(0, len(chunks), n_seqs):
        results += _score_together(driver, chunks[first : first + n_seqs], n_step)
        progress(len(results))
    return results


def _score_together(
    driver: Driver, chunks: list[list[int]], n_step: int
) -> list[NDArray[np.float64]]:
    """One sequence a chunk, packed into the same forwards with equal shares."""
    logprobs: list[list[float]] = [[] for _ in chunks]
    n_share = max(n_step // len(chunks), 1)
    for seq in range(len(chunks)):
        driver.open(seq)
    while runs := _next_runs(chunks, [len(scored) for scored in logprobs], n_share, n_step):
        rows = iter(driver.feed(runs))
        for seq, run in runs:
            start = len(logprobs[seq]) + 1
            for next_token in chunks[seq][start : start + len(run)]:
                logprobs[seq].append(_logprob(next(rows), next_token))
    for seq in range(len(chunks)):
        driver.close(seq)
    return [np.array(scored) for scored in logprobs]


def _next_runs(
    chunks: list[list[int]], n_computed: list[int], n_share: int, n_step: int
) -> list[tuple[int, list[int]]]:
    """Up to ``n_share`` tokens of each chunk, ``n_step`` in all. A chunk's last token predicts
    nothing that is in the text: it is not computed."""
    runs = []
    for seq, chunk in enumerate(chunks):
        start = n_computed[seq]
        run = chunk[start : min(start + n_share, start + n_step, len(chunk) - 1)]
        if run:
            runs.append((seq, run))
            n_step -= len(run)
    return runs


def _logprob(logits: NDArray[np.float32], token_id: int) -> float:
    shifted = logits.astype(np.float64) - logits.max()
    return float(shifted[token_id] - math.log(np.exp(shifted).sum()))


def _chunks(model: GGUFFile, file: Path, n_ctx: int) -> list[list[int]]:
    """The text's tokens in pieces that fill ``n_ctx`` with what the model adds before a text."""
    from slotmux.runtime.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_metadata(model.metadata)
    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise CommandError(f"{file}: not UTF-8: {error.reason} at byte {error.start}") from error
    ids = tokenizer.encode(text, add_special=False)
    # BOS, where the model wants one before every text.
    prefix = [i for i in tokenizer.encode("")[:1] if i == tokenizer.bos_id]
    n_text = n_ctx - len(prefix)
    pieces = [prefix + ids[start : start + n_text] for start in range(0, len(ids), n_text)]
    chunks = [piece for piece in pieces if len(piece) >= 2]
    if not chunks:
        raise CommandError(f"{file}: too short, nothing to predict")
    return chunks


def _report(logprobs: NDArray[np.float64], n_chunks: int, n_ctx: int, as_json: bool) -> None:
    n_tokens = len(logprobs)
    mean = math.fsum(logprobs) / n_tokens
    value = math.exp(-mean)
    # Standard error of the mean log-probability, carried through exp.
    variance = math.fsum((logprobs - mean) ** 2) / max(n_tokens - 1, 1)
    error = value * math.sqrt(variance / n_tokens)
    if as_json:
        report = {
            "perplexity": value,
            "standard_error": error,
            "mean_logprob": mean,
            "n_tokens": n_tokens,
            "n_sequences": n_chunks,
            "n_ctx": n_ctx,
        }
        print(json.dumps(report))
    else:
        print(f"perplexity {value:.4f} +/- {error:.4f}  ({n_tokens} tokens, {n_chunks} sequences)")

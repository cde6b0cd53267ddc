"""Endless batches of token rows, the same for the same seed, made by processes beside training.

A row is one conversation from its first token on, cut to length: rows need no masks, and the model
never sees a state that is not its own.
"""

from __future__ import annotations

import collections
import multiprocessing
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tools.demo.text.chats import chat, plain
from tools.demo.vocab import IM_END, IM_START, START, Message, render, train_tokenizer

PLAIN_SHARE = 0.04  # of rows that are no conversation
UNANSWERED = 0.1  # weight of tokens that the model does not say
_CHARS_A_TOKEN = 4.5

_tokenizer: Tokenizer | None = None  # of this worker process


@dataclass(frozen=True, slots=True)
class Batch:
    """tokens [n_rows, n + 1]; weights of each token as a target, the same shape."""

    tokens: NDArray[np.int64]
    weights: NDArray[np.float32]


def demo_tokenizer(n_vocab: int, seed: int, n_texts: int = 6000) -> Tokenizer:
    """The tokenizer, learned from conversations of its own."""
    rng = random.Random(f"vocab {seed}")
    texts = (
        plain(rng) if rng.random() < PLAIN_SHARE else "\n".join(t for _, t in chat(rng, 600))
        for _ in range(n_texts)
    )
    return train_tokenizer(texts, n_vocab)


def encode_chat(tokenizer: Tokenizer, messages: list[Message]) -> tuple[list[int], list[float]]:
    """Tokens of a whole conversation and their weights as targets."""
    ids: list[int] = []
    weights: list[float] = []
    contents = tokenizer.encode_batch([text for _, text in messages])
    start, end = tokenizer.token_to_id(IM_START), tokenizer.token_to_id(IM_END)
    newline = tokenizer.encode("\n").ids
    for (role, _), content in zip(messages, contents, strict=True):
        header = [start, *tokenizer.encode(f"{role}\n").ids]
        said = 1.0 if role == "assistant" else UNANSWERED
        ids += [*header, *content.ids, end, *newline]
        weights += [UNANSWERED] * len(header) + [said] * (len(content) + 1)
        weights += [UNANSWERED] * len(newline)
    return ids, weights


def _row(rng: random.Random, tokenizer: Tokenizer, n: int) -> tuple[list[int], list[float]]:
    """One row of exactly ``n`` tokens; a short one is filled up with tokens of no weight."""
    start = tokenizer.token_to_id(START)
    if rng.random() < PLAIN_SHARE:
        ids: list[int] = []
        while len(ids) < n:
            ids += [*tokenizer.encode(plain(rng)).ids, start]
        return ids[:n], [1.0] * n
    ids, weights = encode_chat(tokenizer, chat(rng, int(n * _CHARS_A_TOKEN)))
    missing = max(0, n - len(ids))
    return [*ids, *[start] * missing][:n], [*weights, *[0.0] * missing][:n]


def rows(seed: str, n_rows: int, n_tokens: int, tokenizer: Tokenizer) -> Batch:
    """``n_rows`` rows of ``n_tokens`` and one more, which is only a target."""
    rng = random.Random(seed)
    made = [_row(rng, tokenizer, n_tokens + 1) for _ in range(n_rows)]
    tokens = np.array([ids for ids, _ in made], np.int64)
    return Batch(tokens, np.array([weights for _, weights in made], np.float32))


def _start_worker(tokenizer_json: str) -> None:
    global _tokenizer
    _tokenizer = Tokenizer.from_str(tokenizer_json)


def _work(task: tuple[str, int, int]) -> Batch:
    assert _tokenizer is not None
    return rows(*task, _tokenizer)


def batches(
    tokenizer: Tokenizer, seed: int, n_tokens: int, lengths: list[int], n_workers: int
) -> Iterator[Batch]:
    """Batches of ``n_tokens`` tokens in rows of ``lengths`` by turns, without end."""
    context = multiprocessing.get_context("spawn")
    n_parts = min(8, n_tokens // max(lengths))
    with context.Pool(n_workers, _start_worker, (tokenizer.to_str(),)) as pool:
        waiting: collections.deque[list] = collections.deque()
        for step in range(1 << 62):
            n = lengths[step % len(lengths)]
            tasks = [(f"{seed} {step} {i}", n_tokens // n // n_parts, n) for i in range(n_parts)]
            waiting.append([pool.apply_async(_work, (task,)) for task in tasks])
            if len(waiting) > 2 * n_workers // n_parts + 4:
                parts = [job.get() for job in waiting.popleft()]
                yield Batch(
                    np.concatenate([p.tokens for p in parts]),
                    np.concatenate([p.weights for p in parts]),
                )


def as_prompt(tokenizer: Tokenizer, messages: list[Message]) -> list[int]:
    """Tokens of a conversation that the model is to go on with."""
    return tokenizer.encode(render(messages, add_generation_prompt=True)).ids

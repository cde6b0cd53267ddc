"""The training loop: batches in, a checkpoint every minute, an end by the clock."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tools.demo.corpus import Batch
from tools.demo.delta import CHUNK
from tools.demo.graphs import GraphedStep, PlainStep, Step
from tools.demo.model import DemoModel
from tools.demo.muon import optimizers

DRAFT_WEIGHTS = (0.3, 0.1, 0.1)  # of the predictor's passes beside the trunk's loss


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long, how fast. Rates rise over ``n_warmup`` steps, stay, and fall to zero with time."""

    minutes: float
    lr: float = 4e-3
    matrix_lr: float = 0.02
    n_warmup: int = 100
    fall_from: float = 0.35  # share of the time after which rates fall
    drafts_every: int = 3  # steps with the later passes of the predictor
    checkpoint_s: float = 60.0

    def rate(self, step: int, elapsed_s: float) -> float:
        """The factor of all rates."""
        share = min(1.0, elapsed_s / (60 * self.minutes))
        fall = min(1.0, (1 - share) / (1 - self.fall_from))
        return min(1.0, (step + 1) / self.n_warmup) * fall


def losses(model: DemoModel, tokens: Tensor, weights: Tensor, n_passes: int) -> Tensor:
    """Weighted cross-entropy of the trunk and of ``n_passes`` passes of the predictor."""
    inputs, target = tokens[:, :-1], tokens[:, 1:].reshape(-1)
    weight = weights[:, 1:]
    hidden = model.trunk(inputs)
    found = []
    for s, h in enumerate([hidden, *model.predictions(inputs, hidden, n_passes)]):
        each = model.parts.head_loss(
            h.reshape(-1, h.shape[-1]), model.token_embd, target, model.dtype
        ).view(weight.shape)
        skipped = max(0, s - 1)  # positions that have no earlier pass
        mean = (each * weight)[:, skipped:].sum() / weight[:, skipped:].sum()
        found.append(mean * DRAFT_WEIGHTS[s - 1] if s else mean)
    return torch.stack(found)


def train(
    model: DemoModel,
    batches: Iterator[Batch],
    schedule: Schedule,
    checkpoint: Callable[[], None],
    log: Callable[[str], None],
) -> None:
    """Train until the time is over; the clock starts when everything is compiled."""
    device = model.token_embd.device
    step_of = prepared(model, batches, log)
    chosen = optimizers(model, schedule.lr, schedule.matrix_lr)
    started = last_saved = time.monotonic()
    progress = Progress(log, started)
    step = 0
    while (elapsed := time.monotonic() - started) < 60 * schedule.minutes:
        tokens, weights = (x.to(device, non_blocking=True) for x in as_tensors(next(batches)))
        n_passes = len(DRAFT_WEIGHTS) if step % schedule.drafts_every == 0 else 1
        found = step_of(tokens, weights, n_passes)
        _update(model, chosen, schedule.rate(step, elapsed))
        step += 1
        progress.add(step, tokens, found)
        if time.monotonic() - last_saved > schedule.checkpoint_s:
            checkpoint()
            last_saved = time.monotonic()
    log(f"{step} steps in {time.monotonic() - started:.0f} s")


def as_tensors(batch: Batch) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(batch.tokens), torch.from_numpy(batch.weights)


def prepared(model: DemoModel, batches: Iterator[Batch], log: Callable[[str], None]) -> Step:
    """How a step is done here: on a GPU from graphs where that works."""
    plain = PlainStep(model, functools.partial(losses, model))
    if not model.token_embd.is_cuda:
        return plain
    tokens, weights = (x.to(model.token_embd.device) for x in as_tensors(next(batches)))
    plain(tokens, weights, len(DRAFT_WEIGHTS))
    log("compiled")
    try:
        graphed = GraphedStep(plain)
        graphed(tokens, weights, 1)
    except RuntimeError as error:
        log(f"no graphs: {error}")
        return plain
    log("graphs work")
    return graphed


class Progress:
    """Says every 50 steps how it goes."""

    def __init__(self, log: Callable[[str], None], started: float) -> None:
        self.log, self.started, self.last = log, started, started
        self.n_tokens = 0
        self.smooth: list[float] = []

    def add(self, step: int, tokens: Tensor, found: Tensor) -> None:
        self.n_tokens += tokens.numel()
        if step % 50 and step > 3:
            return
        now = found[:2].tolist()
        now[1] /= DRAFT_WEIGHTS[0]
        pairs = zip(self.smooth or now, now, strict=True)
        self.smooth = [0.8 * old + 0.2 * new for old, new in pairs]
        time_now = time.monotonic()
        rate = self.n_tokens / (time_now - self.last) / 1e3
        self.log(
            f"step {step}, {time_now - self.started:.0f} s: loss {self.smooth[0]:.4f}"
            f" draft {self.smooth[1]:.4f}, {rate:.0f}k tokens/s"
        )
        self.n_tokens, self.last = 0, time_now


def _update(model: DemoModel, chosen: list[torch.optim.Optimizer], rate: float) -> None:
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
    for optimizer in chosen:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        optimizer.step()


def check_lengths(lengths: list[int], n_tokens: int) -> None:
    """Raise ValueError for rows that the network cannot be trained on."""
    for n in lengths:
        if n % CHUNK or n_tokens % n:
            raise ValueError(
                f"rows of {n} tokens: not whole chunks of {CHUNK}, or not whole batches"
            )

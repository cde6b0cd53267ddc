"""The work of grammars beside the engine thread: masks while the forward runs, then what was drawn.

Threads of their own, so that a grammar which takes too long costs its own choice and nobody else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.engine.constraint import Constraint, ConstraintError
from slotmux.runtime.engine.slots import Slot
from slotmux.runtime.ubatch import Ubatch

log = logging.getLogger(__name__)

N_THREADS = 2
TIMEOUT_S = 5.0  # grammars are bounded by their library's fuel: this is far beyond
TOO_SLOW = "the grammar took too long"
FAILED = "the grammar failed"
NO_TOKEN = "the grammar and the other parameters leave no token to draw"

Draws = Sequence[tuple[Slot, int]]


class _Task:
    """One call for one constraint, which is the thread's own from ``is_begun`` to ``is_done``."""

    __slots__ = ("call", "constraint", "is_begun", "is_done")

    def __init__(self, constraint: Constraint, call: Callable[[], None]) -> None:
        self.constraint, self.call = constraint, call
        self.is_begun = self.is_done = False


class Masks:
    """Does the constraints' work of each step. All methods: engine thread.

    What goes wrong is kept as the constraint's ``fault``.
    """

    def __init__(
        self, ubatch: Ubatch, logits: NDArray[np.float32], timeout_s: float = TIMEOUT_S
    ) -> None:
        self._ubatch, self._logits = ubatch, logits
        self._timeout_s = timeout_s
        self._todo: SimpleQueue[_Task | None] = SimpleQueue()
        self._done: SimpleQueue[_Task] = SimpleQueue()
        self._running: list[_Task] = []
        self._n_threads = 0

    def begin(self, draws: Draws) -> bool:
        """Start on the masks of a planned step; False if nobody is constrained."""
        for slot, _ in draws:
            constraint = live_constraint(slot)
            if constraint is not None:
                self.start(constraint, tuple(slot.drafts) if slot.n_draft else ())
        return bool(self._running)

    def join(self, draws: Draws) -> None:
        """Wait for the masks and let the draws go by them."""
        self.wait()
        table = self._ubatch.sample_masks
        for slot, first in draws:
            constraint = live_constraint(slot)
            if constraint is not None:
                n = constraint.n_masks
                table[first : first + n] = [constraint.mask(i) for i in range(n)]

    def accept(self, draws: Draws, drawn: Sequence[int]) -> None:
        """Let the grammars follow what was drawn, and forget the masks."""
        self._ubatch.sample_masks[: self._ubatch.n_samples] = 0
        for slot, first in draws:
            constraint = live_constraint(slot)
            if constraint is None or constraint.is_over:
                continue
            run, undrawn = _run(slot, first, drawn)
            constraint.is_stuck = undrawn >= 0 and self._is_number(undrawn)
            choice = slot.choice
            assert choice is not None
            # Log-probabilities of forced tokens are wanted: each is drawn then.
            may_jump = choice.sampling.n_logprobs < 0
            self._start(constraint, _accepting(constraint, run, may_jump))
        self.wait()

    def _is_number(self, draw: int) -> bool:
        """Whether a draw had logits to draw from."""
        return bool(np.isfinite(self._logits[self._ubatch.sample_output.item(draw)]).all())

    def close(self) -> None:
        """Let the threads end."""
        for _ in range(self._n_threads):
            self._todo.put(None)
        self._n_threads = 0

    def start(self, constraint: Constraint, drafts: tuple[int, ...]) -> None:
        """Begin to prepare a constraint for drafts. It is the helper's own until ``wait``."""
        self._start(constraint, lambda: constraint.prepare(drafts))

    def _start(self, constraint: Constraint, call: Callable[[], None]) -> None:
        self._fill_up()
        task = _Task(constraint, call)
        self._running.append(task)
        self._todo.put(task)

    def _fill_up(self) -> None:
        while self._n_threads < N_THREADS:
            self._n_threads += 1
            args = (self._todo, self._done)
            threading.Thread(target=_work, args=args, name="slotmux-grammar", daemon=True).start()

    def wait(self) -> None:
        """Until all that was started is done or has had its time. A thread that hangs is left to
        itself, and another does what had to wait behind it."""
        deadline = time.monotonic() + self._timeout_s
        while self._running:
            try:
                task = self._done.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                self._give_up()
                deadline = time.monotonic() + self._timeout_s
                continue
            if task in self._running:  # else another step's, given up since
                self._running.remove(task)

    def _give_up(self) -> None:
        """End the constraints whose calls have begun and are not done."""
        hanging = [task for task in self._running if task.is_begun and not task.is_done]
        for task in hanging:
            task.constraint.fault = TOO_SLOW
            self._running.remove(task)
        self._n_threads -= len(hanging)
        self._fill_up()


def _work(todo: SimpleQueue[_Task | None], done: SimpleQueue[_Task]) -> None:
    while (task := todo.get()) is not None:
        task.is_begun = True
        constraint = task.constraint
        try:
            if constraint.fault is None:
                task.call()
        except ConstraintError as error:
            constraint.fault = str(error)
        except Exception:
            log.exception("a grammar failed")
            constraint.fault = FAILED
        task.is_done = True
        done.put(task)


def live_constraint(slot: Slot) -> Constraint | None:
    """The slot's constraint, unless there is none or it has failed."""
    choice = slot.choice
    assert choice is not None
    constraint = choice.constraint
    return constraint if constraint is not None and constraint.fault is None else None


def _accepting(constraint: Constraint, run: list[int], may_jump: bool) -> Callable[[], None]:
    return lambda: constraint.accept(run, may_jump=may_jump)


def _run(slot: Slot, first: int, drawn: Sequence[int]) -> tuple[list[int], int]:
    """What a slot has drawn, as far as its drafts were right; and the draw that ended it by giving
    nothing, or -1."""
    run: list[int] = []
    for draft in (*(slot.drafts if slot.n_draft else ()), -1):
        draw = first + len(run)
        if drawn[draw] < 0:
            return run, draw
        run.append(drawn[draw])
        if drawn[draw] != draft:
            break
    return run, -1

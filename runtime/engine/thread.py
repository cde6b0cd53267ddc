"""The engine thread: takes requests in from any thread, runs steps, sleeps when there is nothing.

All work on slots and memory happens in ``Core`` on this one thread.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from slotmux.runtime.engine.admission.admission import check_request, check_speculative
from slotmux.runtime.engine.config import EngineConfig
from slotmux.runtime.engine.core import Core
from slotmux.runtime.engine.report import engine_stats
from slotmux.runtime.engine.request import (
    EngineStoppedError,
    InvalidRequestError,
    QueueFullError,
    Request,
)
from slotmux.runtime.engine.stats import EngineStats
from slotmux.runtime.interfaces import DetokenizerLike, ModelLike, TokenizerLike
from slotmux.runtime.memory.disk.store import Store
from slotmux.runtime.memory.events import EventPort
from slotmux.runtime.speculation.costs import Costs
from slotmux.runtime.ubatch import I32

__all__ = ["Engine", "EngineConfig", "EngineStats"]

log = logging.getLogger(__name__)
T = TypeVar("T")

IDLE_HEARTBEAT_S = 1.0
DISK_WAIT_S = 0.005  # at most, between two looks at what has been read from disk
JOIN_GRACE_S = 10.0  # without any progress of a forward that is waited for


class EngineThread(ABC):
    """The life of an engine's one thread. Every public method may be called from any thread.

    ``failure`` is set when the thread died of something that was no single request's fault: all
    requests have then ended with an error and no new one is taken.
    """

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self._wake = threading.Condition()
        self._n_ids = 0
        self._is_draining = self._is_stopping = False
        self._heartbeat = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="slotmux-engine", daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs and takes requests or finishes those it has."""
        return self._thread.is_alive() and self.failure is None

    def start(self) -> None:
        """Start the thread. Once."""
        self._heartbeat = time.monotonic()
        self._thread.start()

    def stop(self, drain_timeout_s: float = 0.0) -> bool:
        """Take no more requests; finish those taken, or abort them after the timeout.

        Returns whether all finished by themselves and the thread has ended.
        """
        with self._wake:
            self._is_draining = True
            self._wake.notify()
        if self._thread.ident is None:
            return True
        self._thread.join(drain_timeout_s)
        if not self._thread.is_alive():
            return self.failure is None
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        progress = None
        while self._thread.is_alive() and self._progress != progress:
            progress = self._progress
            self._thread.join(JOIN_GRACE_S)
        return False

    @property
    @abstractmethod
    def _progress(self) -> int:
        """Changes while a forward gets ahead."""

    @abstractmethod
    def _run(self) -> None:
        """What the thread does, until it has drained."""


class Engine(EngineThread):
    """Serves requests on a model, which stays the caller's."""

    def __init__(
        self,
        model: ModelLike,
        tokenizer: TokenizerLike,
        config: EngineConfig,
        *,
        new_detokenizer: Callable[[], DetokenizerLike] | None = None,
        costs: Costs | None = None,
        events: EventPort | None = None,
        store: Store | None = None,
    ) -> None:
        if new_detokenizer is None:
            new_detokenizer = _detokenizers_of(tokenizer)
        super().__init__()
        self.config = config
        self._n_vocab, self._n_vector = model.n_vocab, model.n_vector
        self._check_sampling = model.sampling.check
        self._core = Core(
            model, config, tokenizer.eog_ids, new_detokenizer, costs, events=events,
            store=store, notify=self._notify,
        )  # fmt: skip
        self._inbox: deque[tuple[Request, I32, float]] = deque()
        self._aborts: deque[int] = deque()
        self._cuts: deque[int] = deque()
        self._errands: deque[tuple[Future[Any], Callable[[], None]]] = deque()

    # -- for callers

    @property
    def n_ctx(self) -> int:
        """Tokens that one sequence can have: the context, or the whole pool if that is less."""
        return self._core.memory.n_ctx

    def submit(self, request: Request) -> int:
        """Queue a request; returns the id it now has.

        Raises InvalidRequestError, QueueFullError or EngineStoppedError; then nothing was taken.
        """
        try:
            prompt = check_request(request, self.config.n_slots, self.n_ctx, self._n_vocab)
            if request.wants_vector and not self._n_vector:
                raise InvalidRequestError("model", "this model gives no vectors of texts")
            self._check_sampling(request.sampling)
            check_speculative(request.speculative, self.config.spec)
        except InvalidRequestError:
            self._core.meter.on_reject("invalid")
            raise
        with self._wake:
            if not self.is_alive or self._is_draining:
                self._core.meter.on_reject("stopped")
                raise EngineStoppedError("the engine takes no new requests")
            self._check_queue(request)
            self._n_ids += 1
            request.id = self._n_ids
            self._inbox.append((request, prompt, time.monotonic()))
            self._wake.notify()
        return request.id

    def _check_queue(self, request: Request) -> None:
        """Raise QueueFullError when the queue is full, or a client's share of it. Prompts that came
        together count as one, and a client with nothing waiting may bring any number."""
        waiting = [choice.client for choice in self._core.admission.waiting() if choice.is_new]
        waiting += [other.client for other, _, _ in list(self._inbox)]
        n_free = sum(slot.choice is None for slot in self._core.slots)
        n_waiting, meter = len(waiting), self._core.meter
        if n_waiting >= self.config.max_queue + n_free:
            if request.is_first:  # others wait for their turn outside: nobody is told
                meter.on_reject("queue_full")
            raise QueueFullError(meter.retry_after(n_waiting, self.config.n_slots))
        clients = {*waiting, request.client}
        n_own = waiting.count(request.client)
        if not request.is_first or not n_own or clients == {""}:
            return
        if n_own + request.n_together > self._share(clients) + n_free:
            meter.on_reject("queue_share")
            raise QueueFullError(meter.retry_after(n_own, self.config.n_slots), is_share=True)

    def _share(self, clients: set[str]) -> int:
        """Places of the queue that one of these clients may take: an equal part, and alone three
        quarters, so that there is room for whoever comes next."""
        return max(1, self.config.max_queue * 3 // 4 // len(clients))

    def abort(self, request_id: int) -> None:
        """End a request before the next step; no-op when it is unknown or has ended."""
        with self._wake:
            self._aborts.append(request_id)
            self._wake.notify()

    def cut(self, request_id: int) -> None:
        """End a request before the next step with what it has, finish reason LENGTH; no-op when it
        is unknown or has ended."""
        with self._wake:
            self._cuts.append(request_id)
            self._wake.notify()

    def errand(self, run: Callable[[Core], T]) -> Future[T]:
        """Have ``run`` called on the engine thread between two steps; what it raises is the
        future's. Raises EngineStoppedError."""
        future: Future[T] = Future()

        def go() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(run(self._core))
                except Exception as error:
                    future.set_exception(error)

        with self._wake:
            if not self.is_alive or self._is_draining:
                raise EngineStoppedError("the engine takes no new requests")
            self._errands.append((future, go))
            self._wake.notify()
        return future

    def stats(self) -> EngineStats:
        """A snapshot of slots, memory, queue, counters and times."""
        return engine_stats(
            self._core,
            n_inbox=len(self._inbox),
            heartbeat_age_s=time.monotonic() - self._heartbeat,
            is_draining=self._is_draining,
        )

    def _notify(self) -> None:
        """Something has come from the disk."""
        with self._wake:
            self._wake.notify()

    # -- the thread

    @property
    def _progress(self) -> int:
        return self._core.progress

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._core.step(self._heartbeat)
        except BaseException as error:
            self._fail(error)
        finally:
            self._core.close(is_sound=self.failure is None)
        while self._errands:
            future, _ = self._errands.popleft()
            if future.set_running_or_notify_cancel():
                future.set_exception(EngineStoppedError("the engine has stopped"))

    def _wait_for_work(self) -> bool:
        """Take requests and aborts in; sleep while there is nothing to do. False = the end."""
        core = self._core
        while True:
            self._heartbeat = now = time.monotonic()
            if self._inbox or self._aborts or self._cuts or self._is_stopping:
                self._take_in(now)
            while self._errands:
                self._errands.popleft()[1]()
            if core.has_work and not core.is_reading:
                return True
            core.tend(now)
            with self._wake:
                if self._inbox or self._aborts or self._cuts or self._errands:
                    continue
                if core.has_work:
                    self._wake.wait(DISK_WAIT_S)
                    return True
                if self._is_draining:
                    return False
                self._wake.wait(IDLE_HEARTBEAT_S)

    def _take_in(self, now: float) -> None:
        core = self._core
        while self._inbox:
            request, prompt, submitted = self._inbox.popleft()
            core.add(request, prompt, submitted)
        while self._aborts:
            core.abort(self._aborts.popleft(), now)
        while self._cuts:
            core.cut(self._cuts.popleft(), now)
        if self._is_stopping:
            core.shut_down(now)
        core.emit()

    def _fail(self, error: BaseException) -> None:
        log.critical("the engine has failed", exc_info=error)
        with self._wake:
            self.failure = error
            self._is_draining = True
            while self._inbox:
                request, prompt, submitted = self._inbox.popleft()
                self._core.add(request, prompt, submitted)
        self._core.fail(time.monotonic())


def _detokenizers_of(tokenizer: TokenizerLike) -> Callable[[], DetokenizerLike]:
    from slotmux.runtime.tokenizer import Detokenizer, Tokenizer

    assert isinstance(tokenizer, Tokenizer)
    return lambda: Detokenizer(tokenizer)

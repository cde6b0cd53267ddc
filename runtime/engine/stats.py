"""Counts and times of the engine for /metrics, /slots and Retry-After."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from slotmux.runtime.engine.request import FinishReason, Usage
from slotmux.runtime.memory.disk.tier import DiskStats

TIMES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """Seconds in fixed buckets; the last one is +Inf. One writer, any readers."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(TIMES) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float, n: int = 1) -> None:
        """``n`` observations of ``seconds`` each."""
        self.counts[bisect_left(TIMES, seconds)] += n
        self.sum_s += n * seconds

    def snapshot(self) -> HistogramStats:
        return HistogramStats(TIMES, tuple(self.counts), self.sum_s)


@dataclass(frozen=True, slots=True)
class HistogramStats:
    """``counts[i]`` observations were at most ``bounds[i]`` and above the bound before (not
    cumulative); the last count is of those above all bounds."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float


@dataclass(slots=True)
class Counters:
    """Totals since the start; written on the engine thread."""

    n_steps: int = 0
    n_step_slots: int = 0  # sum over steps of the slots that computed something
    n_prompt_tokens: int = 0  # computed
    n_prompt_tokens_cached: int = 0  # reused
    n_prompt_tokens_disk: int = 0  # of those, from the tier on disk
    n_prompt_tokens_queried: int = 0  # looked up in the prefix cache
    cache_misses: dict[str, int] = field(default_factory=dict)  # prompts, by CacheMiss
    n_generated_tokens: int = 0
    n_recomputed_tokens: int = 0  # of parked sequences
    n_forced_tokens: int = 0  # that a grammar made known without a draw
    n_tokens_max: int = 0  # longest sequence seen
    n_drafts: int = 0  # runs with drafts
    n_draft_tokens: int = 0
    n_draft_accepted: int = 0
    drafted_at: list[int] = field(default_factory=list)  # by position in the draft
    accepted_at: list[int] = field(default_factory=list)
    n_parked: int = 0
    n_passed: int = 0  # choices that began while one before them did not fit
    n_requests: int = 0
    prompt_s: float = 0.0
    generate_s: float = 0.0
    finished: dict[str, int] = field(default_factory=lambda: {r.value: 0 for r in FinishReason})
    rejected: dict[str, int] = field(default_factory=dict)  # by cause


@dataclass(frozen=True, slots=True)
class SlotStats:
    """One slot as /slots shows it; no text, no tokens."""

    id: int
    state: str  # idle, waiting, prompt, generating
    request_id: int
    index: int
    n_prompt: int
    n_cached: int
    n_computed: int
    n_generated: int
    n_blocks: int
    n_draft: int = 0  # drafts verified in this slot since the start
    n_draft_accepted: int = 0
    # Of the choice in it: whose it is, what it may come to, since when it runs.
    client: str = ""
    session: str = ""
    priority: int = 0
    n_limit: int = 0  # most tokens, those of the prompt too
    has_row: bool = False  # whether it has a row of recurrent state
    running_s: float = 0.0  # since it got the slot
    generating_s: float = 0.0  # since its first token
    n_choice_draft: int = 0
    n_choice_draft_accepted: int = 0


@dataclass(frozen=True, slots=True)
class MemoryBytes:
    """Memory of sequences and of the prefix cache, in bytes."""

    running: int = 0  # cells and states that running sequences hold
    most: int = 0  # that they can have, nothing kept
    kept_cells: int = 0  # that only the prefix cache holds
    kept_states: int = 0
    index: int = 0  # of the prefix cache itself
    limit: int = 0  # of all the above together; 0: bounded by the number of places


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot; numbers of a running engine may differ by one step among each other."""

    slots: tuple[SlotStats, ...]
    n_ctx: int
    n_queued: int
    n_slots_busy: int
    n_blocks: int
    n_blocks_free: int
    n_blocks_cached: int
    n_rows: int
    n_rows_free: int
    n_checkpoints: int
    counters: Counters
    step: HistogramStats
    ttft: HistogramStats
    itl: HistogramStats
    e2e: HistogramStats
    queue: HistogramStats
    prompt: HistogramStats
    generate: HistogramStats
    heartbeat_age_s: float
    progress: int  # changes while a forward gets ahead
    max_step_s: float
    is_draining: bool
    memory: MemoryBytes = MemoryBytes()
    disk: DiskStats | None = None  # None: there is no tier on disk


class Meter:
    """Where the engine thread writes what it counts."""

    def __init__(self, max_drafts: int = 0) -> None:
        # Lists keep their length: other threads copy them.
        self.counters = Counters(drafted_at=[0] * max_drafts, accepted_at=[0] * max_drafts)
        self.step = Histogram()
        self.ttft = Histogram()
        self.itl = Histogram()
        self.e2e = Histogram()
        self.queue = Histogram()
        self.prompt = Histogram()
        self.generate = Histogram()
        self.max_step_s = 0.0
        self.service_s = 0.0  # moving average of a request's time in its slot; 0 = none yet

    def on_step(self, n_slots: int, seconds: float) -> None:
        self.counters.n_steps += 1
        self.counters.n_step_slots += n_slots
        self.step.observe(seconds)
        self.max_step_s = max(self.max_step_s, seconds)

    def on_finish(self, reason: FinishReason, usage: Usage) -> None:
        counters = self.counters
        counters.finished[reason.value] += 1
        counters.prompt_s += usage.prompt_s
        counters.generate_s += usage.generate_s
        self.queue.observe(usage.queue_s)
        self.prompt.observe(usage.prompt_s)
        self.generate.observe(usage.generate_s)
        self.e2e.observe(usage.queue_s + usage.prompt_s + usage.generate_s)
        if usage.ttft_s:
            self.ttft.observe(usage.ttft_s)
            service = usage.prompt_s + usage.generate_s
            self.service_s = 0.8 * self.service_s + 0.2 * service if self.service_s else service

    def on_drafts(self, n: int, n_accepted: int) -> None:
        """A step has verified ``n`` drafts of a sequence."""
        counters = self.counters
        counters.n_drafts += 1
        counters.n_draft_tokens += n
        counters.n_draft_accepted += n_accepted
        for counts, count in ((counters.drafted_at, n), (counters.accepted_at, n_accepted)):
            for j in range(count):
                counts[j] += 1

    def on_reject(self, cause: str) -> None:
        rejected = self.counters.rejected
        rejected[cause] = rejected.get(cause, 0) + 1

    def retry_after(self, n_waiting: int, n_slots: int) -> int:
        """Whole seconds until the queue has probably moved on: 1 to 60."""
        return int(min(60.0, max(1.0, self.service_s * (n_waiting + 1) / n_slots + 0.5)))

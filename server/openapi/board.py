"""Schemas of /board."""

from __future__ import annotations

from typing_extensions import TypedDict


class ServerFacts(TypedDict):
    """What serves."""

    version: str
    uptime_s: int
    is_draining: bool


class ModelFacts(TypedDict):
    """What is served."""

    name: str
    architecture: str
    n_params: int
    n_bytes: int
    n_ctx: int
    n_ctx_train: int


class BoardSlot(TypedDict):
    """A slot and the choice in it. Clients and sessions are digests; "" is nobody's name."""

    id: int
    state: str
    request: int
    choice: int
    client: str
    session: str
    priority: int
    n_prompt: int
    n_cached: int
    n_computed: int
    n_generated: int
    n_limit: int
    n_cells: int
    n_states: int
    running_s: float
    tokens_per_second: float
    n_drafted: int
    n_accepted: int
    n_drafted_total: int
    n_accepted_total: int


class Queue(TypedDict):
    """Who waits for a slot."""

    n_waiting: int
    n_max: int


class Cells(TypedDict):
    """Of the KV pool; ``n_cached``: kept as reusable prefixes only."""

    n_total: int
    n_free: int
    n_cached: int


class States(TypedDict):
    """Rows of recurrent state; checkpoints are kept copies."""

    n_rows: int
    n_free: int
    n_checkpoints: int


class Cache(TypedDict):
    """The prefix cache since the start, in tokens; misses in prompts."""

    n_queried: int
    n_reused: int
    misses: dict[str, int]


class Drafts(TypedDict):
    """Speculation since the start, in tokens."""

    n_drafted: int
    n_accepted: int


class Totals(TypedDict):
    """Since the start."""

    n_requests: int
    n_prompt: int
    n_generated: int
    n_steps: int
    n_parked: int
    n_rejected: int
    finished: dict[str, int]


class MemoryParts(TypedDict):
    """What was planned at the start, in bytes."""

    weights: int
    prefix_cache: int
    cells: int
    states: int
    buffers: int
    total: int


class Latency(TypedDict):
    """Of the last ``window_s`` seconds, in milliseconds; null: nothing to tell."""

    window_s: float
    token_ms_p50: float | None
    token_ms_p95: float | None
    first_ms_p50: float | None
    first_ms_p95: float | None


class BoardSample(TypedDict):
    """About a second; latencies are means of what ended in it."""

    number: int
    age_s: float
    prompt_per_second: float
    generated_per_second: float
    n_cached: int
    n_busy: int
    n_queued: int
    token_ms: float | None
    first_ms: float | None


class Board(TypedDict):
    """What the server does."""

    time: float
    server: ServerFacts
    model: ModelFacts
    slots: list[BoardSlot]
    queue: Queue
    cells: Cells
    states: States
    cache: Cache
    drafts: Drafts
    totals: Totals
    memory: MemoryParts | None
    resident_bytes: int | None
    latency: Latency
    samples: list[BoardSample]

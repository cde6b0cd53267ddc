"""What a client asks of the engine and what it gets back; no HTTP, no tokens computed here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.engine.constraint import ConstraintFactory
from slotmux.runtime.errors import SlotmuxError
from slotmux.runtime.prompt_logprobs import PromptLogprobs
from slotmux.runtime.sampling.params import SAMPLERS, SamplingParams

__all__ = [
    "SAMPLERS", "EngineStoppedError", "FinishReason", "InvalidRequestError", "Output",
    "Progress", "QueueFullError", "Request", "SamplerState", "SamplingParams", "SpecParams",
    "TokenLogprobs", "Usage",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class SamplerState:
    """What a sequence takes along when it leaves its slot: mirostat's mu of the draw at ``pos``."""

    pos: int
    mu: float


@dataclass(frozen=True, slots=True)
class SpecParams:
    """What a request wants of speculation, within what the server allows; None = the server's."""

    n_max: int | None = None  # 0 = none for this request
    n_min: int | None = None
    p_min: float | None = None


class FinishReason(StrEnum):
    STOP = "stop"  # end-of-generation token, stop string or stop token
    LENGTH = "length"  # max_tokens or the context is full
    ABORT = "abort"  # the client went away or the server shut down
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural-log probabilities at one position, after bias and penalties, before truncation."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]  # (token_id, logprob), most likely first


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts and times of one sequence; times in seconds."""

    n_prompt: int
    n_cached: int  # prompt tokens whose memory was reused
    n_generated: int
    queue_s: float
    prompt_s: float
    generate_s: float
    n_draft: int = 0
    n_draft_accepted: int = 0
    ttft_s: float = 0.0
    cache_miss: str = ""  # why no more of the prompt was found (CacheMiss of memory/missed.py)
    cache_miss_at: int = 0  # how many tokens of it are known, with or without a state
    n_disk: int = 0  # of n_cached, those that came from the tier on disk


@dataclass(frozen=True, slots=True)
class Output:
    """One delivery to a request: new text of one of its choices, or its end.

    ``text`` is whole UTF-8 characters; it may lag behind ``token_ids`` while a character is
    incomplete or a stop string may be starting. The last Output of a choice has
    ``finish_reason`` set and carries ``usage``.
    """

    index: int  # which of the n choices
    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: FinishReason | None = None
    stop_string: str | None = None  # the stop string that ended the choice
    error: str | None = None  # with finish_reason ERROR or ABORT: what a client may be told
    error_code: str | None = (
        None  # server_error, queue_timeout, no_memory, server_shutdown, grammar_failed
    )
    usage: Usage | None = None
    prompt_logprobs: PromptLogprobs | None = None  # with the first Output of a request that asked
    # With the last Output of a request that asked: its text's vector, or [n_tokens, n] without
    # pooling; not normalised.
    vector: NDArray[np.float32] | None = None


@dataclass(slots=True)
class Progress:
    """How far a request's first choice has come. Written on the engine thread, read anywhere."""

    t_admitted: float = 0.0  # time.monotonic() when it got a slot; 0 = it waits
    n_computed: int = 0  # tokens in memory, those from the cache too
    is_parked: bool = False
    slot_id: int = -1  # the slot it is in, or was in last; -1 = none yet


@dataclass(slots=True)
class Request:
    """One client request: a prompt and n choices to generate from it.

    ``on_output`` is called on the engine thread, once per step with all Outputs of that step;
    it must not block and must not raise.
    """

    prompt: list[int]
    sampling: SamplingParams
    on_output: Callable[[Request, list[Output]], None]
    max_tokens: int = -1  # -1 = until the context is full, 0 = the prompt is all
    # Log-probabilities of the prompt's tokens: -1 = none, else how many alternatives of each
    n_prompt_logprobs: int = -1
    # The prompt is a text whose vector is wanted, and nothing is generated; n_first: how many of
    # its tokens are of the first of two parts (-1: all).
    wants_vector: bool = False
    n_first: int = -1
    min_tokens: int = 0
    n: int = 1  # choice i draws with seed + i
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    include_stop: bool = False  # keep the stop string in the text
    ignore_eos: bool = False
    cache_prompt: bool = True  # may reuse and leave behind a shared prefix
    cache_salt: str = ""  # prefixes are shared only between equal salts
    slot_id: int = -1  # wanted slot, -1 = any
    speculative: SpecParams = SpecParams()
    visible: frozenset[int] = frozenset()  # control tokens whose text is part of the output's
    constraint: ConstraintFactory | None = None  # the grammar that each choice keeps to
    boundaries: tuple[int, ...] = ()  # prompt positions where messages begin: worth a checkpoint
    id: int = 0  # given by Engine.submit
    label: str = ""  # X-Request-Id, for logs only
    # Who is asking: clients get equal shares. "" is everybody who has no name of their own.
    client: str = ""
    priority: int = 0  # lower is earlier; above fairness
    session: str = ""  # what it belongs to: preferably in the slot that had this last; "" = none
    # One of the prompts that came together: the first answers for the share of the queue.
    n_together: int = 1
    is_first: bool = True
    progress: Progress = field(default_factory=Progress)
    context: Any = field(default=None, repr=False)  # the caller's own


class QueueFullError(SlotmuxError):
    """The waiting queue is full, or (``is_share``) a client's share of it; ``retry_after`` is an
    estimate in seconds (1 to 60)."""

    def __init__(self, retry_after: int, *, is_share: bool = False) -> None:
        super().__init__("the queue of waiting requests is full")
        self.retry_after = retry_after
        self.is_share = is_share


class EngineStoppedError(SlotmuxError):
    """The engine is draining, stopped or dead; no new request is taken."""


class InvalidRequestError(SlotmuxError):
    """The request cannot be served as asked; ``field`` names the offending parameter."""

    def __init__(self, field: str, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.code = code

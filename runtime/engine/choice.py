"""One of the n continuations of a request on its way through the engine, and what they share."""

from __future__ import annotations

from dataclasses import replace

from slotmux.runtime.engine.constraint import Constraint
from slotmux.runtime.engine.emitter import Emitter
from slotmux.runtime.engine.request import (
    FinishReason,
    Output,
    Request,
    SamplerState,
    SamplingParams,
    TokenLogprobs,
    Usage,
)
from slotmux.runtime.engine.texts.text_vector import TextVector
from slotmux.runtime.memory.disk.fetch import Fetch
from slotmux.runtime.memory.missed import Missed
from slotmux.runtime.prompt_logprobs import PromptLogprobs
from slotmux.runtime.ubatch import I32


class Job:
    """A submitted request: its unfinished choices and the outputs of the step under way."""

    __slots__ = (
        "_outbox",
        "choices",
        "n_unfinished",
        "outputs",
        "prompt",
        "request",
        "t_submitted",
    )

    def __init__(self, request: Request, prompt: I32, now: float, outbox: list[Job]) -> None:
        self.request = request
        self.prompt = prompt
        self.t_submitted = now
        self.choices: list[Choice] = []
        self.n_unfinished = request.n
        self.outputs: list[Output] = []
        self._outbox = outbox

    def send(self, output: Output) -> None:
        """Queue an Output; the job is in the outbox while it has any."""
        if not self.outputs:
            self._outbox.append(self)
        self.outputs.append(output)


class Choice:
    """A continuation: waiting, in a slot, parked (back among the waiting) or finished.

    ``tokens`` are the known ones while it is out of a slot; in a slot they are in its history.
    ``serial`` is its place in arrival order, which parking does not change.
    """

    __slots__ = (
        "banned_ids",
        "constraint",
        "emitter",
        "end_ids",
        "fetch",
        "index",
        "is_plain",
        "job",
        "last",
        "min_pos",
        "missed",
        "n_cached",
        "n_charged",
        "n_disk",
        "n_draft",
        "n_draft_accepted",
        "n_generated",
        "n_limit",
        "n_looks",
        "n_prompt",
        "n_scored",
        "sampler_state",
        "sampling",
        "scores",
        "serial",
        "t_admitted",
        "t_first",
        "t_last",
        "t_looked",
        "tokens",
        "unsent",
        "vector",
        "was_admitted",
    )

    def __init__(
        self,
        job: Job,
        index: int,
        serial: int,
        emitter: Emitter,
        eog_ids: frozenset[int],
        n_ctx: int,
        constraint: Constraint | None = None,
    ) -> None:
        request = job.request
        self.job = job
        self.index = index
        self.serial = serial
        self.emitter = emitter
        self.constraint = constraint
        self.tokens: I32 = job.prompt
        self.n_prompt = len(job.prompt)
        self.n_generated = 0
        self.n_cached = 0
        self.missed = Missed()
        self.n_disk = 0  # of n_cached, those that the disk tier brought
        # How often it was looked up on disk since it is in the line, when last, and what is read.
        self.n_looks, self.t_looked = 0, 0.0
        self.fetch: Fetch | None = None
        # Of the first choice, if they are wanted: log-probabilities of the prompt's tokens but the
        # first, and of how many they are known.
        self.scores: PromptLogprobs | None = None
        self.n_scored = 0
        if index == 0 and request.n_prompt_logprobs >= 0:
            self.scores = PromptLogprobs.empty(self.n_prompt - 1, request.n_prompt_logprobs)
        self.vector: TextVector | None = None  # of the prompt, if it is wanted
        self.n_charged = 0  # generated tokens for which its client was charged
        self.n_draft = self.n_draft_accepted = 0
        self.sampling = _with_seed(request.sampling, index)
        # Nothing but text is wanted of what it generates, and only a token can end it.
        self.is_plain = (
            constraint is None
            and self.scores is None
            and not request.wants_vector
            and not emitter.has_stops
            and self.sampling.n_logprobs < 0
        )
        self.sampler_state = _first_state(self.sampling, self.n_prompt)  # or when it was parked
        n_room = n_ctx - self.n_prompt
        n_max = n_room if request.max_tokens < 0 else min(request.max_tokens, n_room)
        self.n_limit = self.n_prompt + n_max
        self.end_ids = request.stop_token_ids
        # What may not be drawn before min_pos. ignore_eos: never, or text would run on behind it.
        if request.ignore_eos:
            self.banned_ids: frozenset[int] = eog_ids - request.stop_token_ids
            self.min_pos = n_ctx + 1
        else:
            self.end_ids = self.end_ids | eog_ids
            self.banned_ids = self.end_ids
            self.min_pos = self.n_prompt + request.min_tokens
        self.last: Output | None = None
        self.unsent: tuple[int, ...] = ()  # generated tokens whose text is yet to be sent
        self.was_admitted = False
        self.t_admitted = self.t_first = self.t_last = 0.0

    @property
    def client(self) -> str:
        """Whose turn it takes."""
        return self.job.request.client

    @property
    def priority(self) -> int:
        """Lower is earlier."""
        return self.job.request.priority

    @property
    def session(self) -> str:
        """Of the request, for its first choice: the others take what is free."""
        return self.job.request.session if self.index == 0 else ""

    @property
    def is_finished(self) -> bool:
        return self.last is not None

    @property
    def is_new(self) -> bool:
        """Whether it stands for a request that has not begun."""
        return self.index == 0 and not self.was_admitted

    @property
    def is_scored(self) -> bool:
        """Whether log-probabilities of its prompt are wanted and not all known yet."""
        return self.scores is not None and self.n_scored < len(self.scores.logprobs)

    @property
    def most_reused(self) -> int:
        """Tokens that may come from the prefix cache: the others' logits are wanted."""
        if self.vector is not None:
            return self.vector.most_reused
        return self.n_scored if self.is_scored else len(self.tokens)

    @property
    def salt(self) -> str | None:
        request = self.job.request
        return request.cache_salt if request.cache_prompt else None

    def send_unsent(self) -> None:
        """Send what has been generated since the last Output, if anything."""
        tokens = self.unsent
        if tokens:
            self.unsent = ()
            self.job.send(Output(self.index, self.emitter.push_all(tokens), tokens))

    def finish(
        self,
        reason: FinishReason,
        now: float,
        *,
        text: str = "",
        token_ids: tuple[int, ...] = (),
        logprobs: tuple[TokenLogprobs, ...] = (),
        stop: str | None = None,
    ) -> None:
        """Send the last Output; unless a stop string ended it, with the text still held back."""
        self.send_unsent()
        if stop is None:
            text += self.emitter.flush()
        self._close(
            Output(self.index, text, token_ids, logprobs, reason, stop, usage=self.usage(now))
        )

    def fail(self, reason: FinishReason, now: float, error: str, code: str) -> None:
        """Send a last Output that says what went wrong."""
        self.send_unsent()
        self._close(
            Output(
                self.index,
                finish_reason=reason,
                error=error,
                error_code=code,
                usage=self.usage(now),
            )
        )

    def _close(self, output: Output) -> None:
        assert not self.is_finished
        self.last = output
        self.job.n_unfinished -= 1
        self.job.send(output)

    def usage(self, now: float) -> Usage:
        """Counts and times until ``now``."""
        submitted = self.job.t_submitted
        admitted = self.t_admitted if self.was_admitted else now
        first = self.t_first or now
        return Usage(
            n_prompt=self.n_prompt,
            n_cached=self.n_cached,
            cache_miss=self.missed.reason,
            cache_miss_at=self.missed.at,
            n_disk=self.n_disk,
            n_generated=self.n_generated,
            queue_s=admitted - submitted,
            prompt_s=first - admitted,
            generate_s=now - first,
            n_draft=self.n_draft,
            n_draft_accepted=self.n_draft_accepted,
            ttft_s=first - submitted if self.t_first else 0.0,
        )


def _with_seed(sampling: SamplingParams, index: int) -> SamplingParams:
    return replace(sampling, seed=sampling.seed + index) if index else sampling


def _first_state(sampling: SamplingParams, pos: int) -> SamplerState | None:
    return SamplerState(pos, 2.0 * sampling.mirostat_tau) if sampling.mirostat else None

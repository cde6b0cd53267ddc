"""What the operator decides about the engine; resolved values only."""

from __future__ import annotations

from dataclasses import dataclass

MTP, NGRAM = "draft-mtp", "ngram"
SPEC_TYPES = (MTP, NGRAM)


@dataclass(frozen=True, slots=True)
class SpecConfig:
    """Speculative decoding: where drafts come from, and bounds on how many one step verifies.

    How many within those bounds is decided step by step from what was accepted and what it cost.
    """

    types: tuple[str, ...] = ()  # of SPEC_TYPES; empty = off
    n_max: int = 0  # drafts of a sequence in one step, at most
    n_min: int = 0  # fewer are not verified
    p_min: float = 0.0  # a block's draft less likely than this ends its chain

    def __post_init__(self) -> None:
        if unknown := set(self.types) - set(SPEC_TYPES):
            raise ValueError(f"unknown kinds of speculation: {', '.join(sorted(unknown))}")
        if not 0 <= self.n_min <= self.n_max or not 0.0 <= self.p_min <= 1.0:
            raise ValueError("n_min, n_max or p_min is out of range")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Limits and policies. Sizes of the ubatch and of the pools come with the model."""

    n_slots: int
    n_ctx: int  # most tokens of one sequence
    max_queue: int = 64  # requests waiting beyond those that free slots can take at once
    queue_timeout_s: float = 60.0  # longest wait for a slot; 0 = no limit
    poison_freed: bool = False  # fill freed blocks and rows with NaN, so that a stale read shows
    # Bytes of kept prefixes beside what slots need; None: every block and row that the model has.
    prefix_cache_bytes: int | None = None
    checkpoint_spacing: int = 32  # tokens between two kept states of a recurrent model, at least
    max_prompt_checkpoints: int = 4  # kept of one prompt, its end included
    n_prompt_beside: int = 128  # prompt tokens a step while others generate; 0 = whatever fits
    max_step_s: float = 0.0  # of a step with prompt tokens while others generate; 0 = no bound
    spec: SpecConfig = SpecConfig()

    def __post_init__(self) -> None:
        if self.n_slots < 1 or self.n_ctx < 2 or self.max_queue < 0 or self.queue_timeout_s < 0:
            raise ValueError("n_slots, n_ctx, max_queue or queue_timeout_s is out of range")
        if min(self.checkpoint_spacing, self.max_prompt_checkpoints, self.n_prompt_beside) < 0:
            raise ValueError("a negative checkpoint or prompt limit")

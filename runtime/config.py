"""What the operator decides about the engine; resolved values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Limits and policies. Sizes of the ubatch and of the pools come with the model."""

    n_slots: int
    n_ctx: int  # most tokens of one sequence
    max_queue: int = 64  # requests waiting beyond those that free slots can take at once
    queue_timeout_s: float = 60.0  # longest wait for a slot; 0 = no limit
    poison_freed: bool = False  # fill freed blocks and rows with NaN, so that a stale read shows
    checkpoint_spacing: int = 32  # tokens between two kept states of a recurrent model, at least
    max_prompt_checkpoints: int = 4  # kept of one prompt, its end included
    n_prompt_beside: int = 128  # prompt tokens a step while others generate; 0 = whatever fits

    def __post_init__(self) -> None:
        if self.n_slots < 1 or self.n_ctx < 2 or self.max_queue < 0 or self.queue_timeout_s < 0:
            raise ValueError("n_slots, n_ctx, max_queue or queue_timeout_s is out of range")
        if min(self.checkpoint_spacing, self.max_prompt_checkpoints, self.n_prompt_beside) < 0:
            raise ValueError("a negative checkpoint or prompt limit")

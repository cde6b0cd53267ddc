"""POST /v1/completions: a prompt that is text or token ids, alone or in a list."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator

from slotmux.server.schemas.base import fault, whole_in_lists
from slotmux.server.schemas.generation import GenerationParams
from slotmux.server.schemas.parameters import Place

MAX_PROMPTS = 1024
Prompt = str | list[int]
_Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
_Prompts = str | _Ids | Annotated[list[str | _Ids], Field(min_length=1, max_length=MAX_PROMPTS)]


def _prompts(value: Any) -> list[Prompt]:
    """Every accepted form as a list of prompts. Plain loops: pydantic's unions name no place."""
    value = whole_in_lists(value)
    if isinstance(value, str) or _is_ids(value):
        return [value]
    if not isinstance(value, list) or not all(isinstance(v, str) or _is_ids(v) for v in value):
        raise fault("should be a string, an array of token ids, or a non-empty array of these")
    if not 1 <= len(value) <= MAX_PROMPTS:
        raise fault(f"should hold 1 to {MAX_PROMPTS} prompts")
    return value


def _is_ids(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(type(v) is int and 0 <= v < 2**31 for v in value)
    )


class CompletionRequest(GenerationParams):
    """Body of POST /v1/completions."""

    place: ClassVar[Place | None] = Place.COMPLETION
    default_max_tokens: ClassVar[int] = 16  # OpenAI's
    prompt: Annotated[Any, BeforeValidator(_prompts, json_schema_input_type=_Prompts)]
    max_tokens: Annotated[int, Field(ge=-1, lt=2**31)] | None = None  # 0: only the prompt
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    suffix: str | None = None
    best_of: Annotated[int, Field(ge=1, le=256)] | None = None

    @model_validator(mode="after")
    def _check_best_of(self) -> Self:
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise fault("should not be less than 'n'", "best_of")
        if self.picks_best and self.stream:
            raise fault("which answers are best is not known while they are streamed", "best_of")
        return self

    @model_validator(mode="after")
    def _check_suffix(self) -> Self:
        if not self.suffix:
            return self
        if not all(isinstance(prompt, str) for prompt in self.prompts):
            raise fault("stands behind prompts that are text", "suffix")
        if self.echo and self.logprobs is not None:
            raise fault("not available with 'logprobs' of an echoed prompt", "suffix")
        return self

    @property
    def prompts(self) -> list[Prompt]:
        """The prompts, in order; choice i of prompt p has index p * n + i."""
        prompts: list[Prompt] = self.prompt
        return prompts

    @property
    def picks_best(self) -> bool:
        """Whether more choices are generated than given back."""
        return self.n_generated_choices > (self.n or 1)

    @property
    def n_generated_choices(self) -> int:
        """Choices of each prompt, of which the best ``n`` are given back."""
        return self.best_of or self.n or 1

    @property
    def n_prompt_logprobs(self) -> int:
        """As Request.n_prompt_logprobs: an echoed prompt has as many as the rest."""
        return max(super().n_prompt_logprobs, self.n_logprobs if self.echo else -1)

    @property
    def n_logprobs(self) -> int:
        """As SamplingParams.n_logprobs."""
        return -1 if self.logprobs is None else self.logprobs

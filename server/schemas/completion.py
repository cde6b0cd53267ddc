"""POST /v1/completions: a prompt that is text or token ids, alone or in a list."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator

from slotmux.server.schemas.base import fault
from slotmux.server.schemas.generation import GenerationParams
from slotmux.server.schemas.parameters import Place

MAX_PROMPTS = 1024
Prompt = str | list[int]
_Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
_Prompts = str | _Ids | Annotated[list[str | _Ids], Field(min_length=1, max_length=MAX_PROMPTS)]


def _prompts(value: Any) -> list[Prompt]:
    """Every accepted form as a list of prompts. Plain loops: pydantic's unions name no place."""
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
    prompt: Annotated[Any, BeforeValidator(_prompts, json_schema_input_type=_Prompts)]
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @model_validator(mode="after")
    def _check_echo(self) -> Self:
        if self.echo and self.logprobs is not None:
            raise fault("'logprobs' of an echoed prompt are not supported", "logprobs")
        return self

    @property
    def prompts(self) -> list[Prompt]:
        """The prompts, in order; choice i of prompt p has index p * n + i."""
        prompts: list[Prompt] = self.prompt
        return prompts

    @property
    def n_logprobs(self) -> int:
        """As SamplingParams.n_logprobs."""
        return -1 if self.logprobs is None else self.logprobs

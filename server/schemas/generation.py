"""The parameters that chat and text completions share: length, stops, sampling, streaming."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from slotmux.server.schemas.base import StrictModel, fault
from slotmux.server.schemas.parameters import Place
from slotmux.server.schemas.sampling import SamplingFields
from slotmux.server.schemas.speculative import Speculative, describe_dotted, fold_dotted
from slotmux.server.schemas.structured import StructuredParams

MAX_STOPS = 64  # editors send a dozen
MAX_STOP_CHARS = 256
MAX_STOP_IDS = 1024
_INT32_MAX = 2**31 - 1

StopText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_STOP_CHARS)]
_Stop = Literal[""] | StopText | Annotated[list[StopText], Field(max_length=MAX_STOPS)] | None
Label = Annotated[str, StringConstraints(max_length=1024)]


def _not_zero(value: int) -> int:
    if value == 0:
        raise fault("should be at least 1, or -1 for no limit")
    return value


# Most tokens to generate; -1: as many as the context holds.
MaxTokens = Annotated[int, Field(ge=-1, le=_INT32_MAX), AfterValidator(_not_zero)]


def _stop_list(value: Any) -> Any:
    """One string means a list of one; an empty one stops nothing."""
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, list) and len(value) > MAX_STOPS:
        raise fault(f"at most {MAX_STOPS} stop strings")
    return value


def _short_list(value: Any) -> Any:
    if isinstance(value, list) and len(value) > MAX_STOP_IDS:
        raise fault(f"at most {MAX_STOP_IDS} token ids")
    return value


def _told(value: Any) -> Any:
    """vLLM takes -1 for the whole vocabulary, if its operator lets it: megabytes for each token."""
    if value == -1:
        raise fault("the whole vocabulary is never told: at most 20 tokens in each place")
    return value


class StreamOptions(StrictModel):
    """OpenAI's stream_options."""

    place: ClassVar[Place | None] = Place.STREAM_OPTIONS
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None  # vLLM's: usage so far in every chunk

    @model_validator(mode="after")
    def _check_usage(self) -> Self:
        if self.continuous_usage_stats and not self.include_usage:
            raise fault("needs 'include_usage'", "continuous_usage_stats")
        return self


class GenerationParams(SamplingFields, StructuredParams):
    """Honoured by both completion endpoints. None means: not given."""

    default_max_tokens: ClassVar[int] = -1  # where neither request nor operator says; -1: no limit
    model_config = ConfigDict(json_schema_extra=describe_dotted)

    model: Label | None = None
    max_tokens: MaxTokens | None = None
    min_tokens: Annotated[int, Field(ge=0, le=_INT32_MAX)] | None = None
    n: Annotated[int, Field(ge=1, le=256)] | None = None
    stop: Annotated[
        list[StopText] | None, BeforeValidator(_stop_list, json_schema_input_type=_Stop)
    ] = None
    stop_token_ids: Annotated[
        list[Annotated[int, Field(ge=0, le=_INT32_MAX)]] | None, BeforeValidator(_short_list)
    ] = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = None
    # vLLM's: log-probabilities of the prompt's tokens, with so many alternatives
    prompt_logprobs: Annotated[int | None, Field(ge=0, le=20), BeforeValidator(_told)] = None
    cache_prompt: bool | None = None
    cache_salt: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    # vLLM's: lower is served earlier, whoever asks
    priority: Annotated[int, Field(ge=-(2**31), le=_INT32_MAX)] | None = None
    id_slot: Annotated[int, Field(ge=-1, le=255)] | None = None

    speculative: Speculative | None = None

    # told by clients about themselves: nothing in the answer depends on them
    user: Label | None = None
    safety_identifier: Label | None = None

    # which conversation this belongs to
    session_id: Label | None = None
    prompt_cache_key: Label | None = None

    @model_validator(mode="before")
    @classmethod
    def _fold(cls, data: Any) -> Any:
        return fold_dotted(data)

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        self.check_one_grammar()
        if self.stream_options is not None and not self.stream:
            raise fault("'stream_options' is only allowed when 'stream' is true", "stream_options")
        if self.prompt_logprobs is not None and self.stream:
            raise fault("not available with 'stream'", "prompt_logprobs")
        limit = self.n_max_tokens
        if limit is not None and -1 < limit < (self.min_tokens or 0):
            raise fault("'min_tokens' must not exceed 'max_tokens'", "min_tokens")
        return self

    @property
    def n_max_tokens(self) -> int | None:
        """The limit on generated tokens, whatever it is called in this endpoint."""
        return self.max_tokens

    @property
    def n_prompt_logprobs(self) -> int:
        """As Request.n_prompt_logprobs."""
        return -1 if self.prompt_logprobs is None else self.prompt_logprobs

    @property
    def n_generated_choices(self) -> int:
        """Choices of a prompt that are generated, more than ``n`` where the best are wanted."""
        return self.n or 1

    @property
    def has_continuous_usage(self) -> bool:
        """Whether every chunk of a stream tells the usage so far."""
        return self.stream_options is not None and bool(self.stream_options.continuous_usage_stats)

    @property
    def is_streamed(self) -> bool:
        """Whether the answer is a stream of events."""
        return bool(self.stream)

    @property
    def wants_usage_chunk(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

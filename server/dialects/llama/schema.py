"""The body of /completion and /infill: llama-server's names, and what becomes of the rest."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, StringConstraints

from slotmux.server.http.errors import invalid
from slotmux.server.schemas.base import StrictModel, fault, validate
from slotmux.server.schemas.completion import CompletionRequest
from slotmux.server.schemas.parameters import Place

MAX_FIELDS = 64
MAX_FIELD_CHARS = 256
MAX_EXTRA = 256
_INT32_MAX = 2**31 - 1
# What only OpenAI's completion answers.
_ELSEWHERE = ("echo", "suffix", "best_of", "prompt_logprobs", "stream_options", "return_token_ids")
_RANDOM_SEEDS = (-1, 2**32 - 1)


def _few(value: Any) -> Any:
    if isinstance(value, list) and len(value) > MAX_FIELDS:
        raise fault(f"at most {MAX_FIELDS} names")
    return value


def _few_extra(value: Any) -> Any:
    if isinstance(value, list) and len(value) > MAX_EXTRA:
        raise fault(f"at most {MAX_EXTRA} chunks")
    return value


class NativeOptions(StrictModel):
    """What only llama-server's own completion has."""

    place: ClassVar[Place | None] = None
    n_predict: Annotated[int, Field(ge=-2, le=_INT32_MAX)] | None = None
    n_probs: Annotated[int, Field(ge=0, le=20)] | None = None
    n_cmpl: Annotated[int, Field(ge=1, le=256)] | None = None
    t_max_predict_ms: Annotated[int, Field(ge=-1, le=_INT32_MAX)] | None = None
    response_fields: Annotated[
        list[Annotated[str, StringConstraints(max_length=MAX_FIELD_CHARS)]] | None,
        BeforeValidator(_few),
    ] = None
    return_tokens: bool | None = None
    timings_per_token: bool | None = None

    @property
    def is_prompt_only(self) -> bool:
        """Whether the prompt is to be computed and nothing to be told: n_predict 0."""
        return self.n_predict == 0


class Extra(StrictModel):
    """A chunk of another file; other members, such as the time it was taken, say nothing here."""

    filename: str | None = None
    text: str


class InfillOptions(StrictModel):
    """What /infill has beside those."""

    input_prefix: str
    input_suffix: str
    input_extra: Annotated[
        list[Extra] | None, Field(fail_fast=True), BeforeValidator(_few_extra)
    ] = None


def split(body: dict[str, Any], model: type[StrictModel]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The members of ``body`` that are fields of ``model``, and the others."""
    mine = {name: value for name, value in body.items() if name in model.model_fields}
    return mine, {name: value for name, value in body.items() if name not in mine}


def native_params(
    options: NativeOptions, rest: dict[str, Any], n_predict: int
) -> CompletionRequest:
    """The request that every completion becomes; ``n_predict``: of one that does not say.

    The prompt is not in it yet: it may hold both text and tokens. Raises ApiError 400.
    """
    body = dict(rest)
    for name in _ELSEWHERE:
        if body.get(name) not in (None, False, "") and not (name == "best_of" and body[name] == 1):
            message = f"Unsupported parameter: '{name}' (/v1/completions has it)."
            raise invalid(name, message, "unsupported_parameter")
        body.pop(name, None)
    limit = options.n_predict
    if limit is None:
        limit = body.get("max_tokens", n_predict)
    elif body.get("max_tokens", limit) not in (limit, None):
        raise invalid("max_tokens", "'n_predict' and 'max_tokens' are the same and differ.")
    if options.is_prompt_only:
        limit = 1  # the engine computes a prompt for the sake of a token
    body["max_tokens"] = -1 if limit in (-2, 0, None) else limit
    if options.n_probs:
        body["logprobs"] = options.n_probs
    elif body.get("logprobs") is not None:
        raise invalid("logprobs", "Unsupported parameter: 'logprobs' (use n_probs).")
    if options.n_cmpl is not None:
        if body.get("n", options.n_cmpl) != options.n_cmpl:
            raise invalid("n", "'n_cmpl' and 'n' are the same and differ.")
        body["n"] = options.n_cmpl
    if body.get("seed") in _RANDOM_SEEDS and not isinstance(body.get("seed"), bool):
        del body["seed"]
    if isinstance(body.get("stop"), list):
        body["stop"] = [text for text in body["stop"] if text != ""]
    body["prompt"] = ""
    return validate(CompletionRequest, body)

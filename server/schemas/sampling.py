"""The parameters of a request that say how tokens are drawn, in every form that clients send."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from slotmux.kernels.ops.sampling.codes import N_MAX
from slotmux.runtime.sampling.params import NUMBERS, SAMPLERS
from slotmux.runtime.sampling.told import INT32_MAX
from slotmux.server.schemas.base import StrictModel, fault, whole_in_lists
from slotmux.server.schemas.numbers import request_numbers, with_fields

MAX_BIASES = 1024
MAX_BIAS = 1e9
MAX_ALLOWED_IDS = 1 << 18  # as many tokens as the largest vocabularies have
MAX_BAD_WORDS = 1024
MAX_BREAKERS = 32
MAX_WORD_CHARS = 256
MAX_BREAKER_CHARS = 40  # as in llama-server
MAX_TEXT_CHARS = 16_384  # of all words of one parameter
_LETTERS = dict(zip("edskypmxt", SAMPLERS, strict=True))
_OTHER_NAMES = {
    "temp": "temperature", "nucleus": "top_p", "typical": "typ_p", "typical_p": "typ_p",
    "typ": "typ_p", "top_nsigma": "top_n_sigma",
}  # fmt: skip

Bias = tuple[int | str, float | None]  # a token id or a text, and its bias; None bans


def sampler_names(value: Any) -> Any:
    """A list of names, names separated by semicolons, or llama-server's letters, as names."""
    if isinstance(value, str):
        names = [part.strip() for part in value.split(";") if part.strip()]
        is_named = ";" in value or (len(names) == 1 and _canonical(names[0]) in SAMPLERS)
        value = names if is_named else [_LETTERS.get(letter, letter) for letter in value]
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        raise PydanticCustomError("list_type", "should be a list of names or a string of letters")
    if len(value) > N_MAX:
        raise fault(f"at most {N_MAX} samplers")
    names = [_canonical(name) for name in value]
    if not set(names) <= set(SAMPLERS):
        raise fault(f"a sampler is one of {', '.join(SAMPLERS)}, or of the letters edskypmxt")
    return tuple(names)


def _canonical(name: str) -> str:
    name = name.replace("-", "_")
    return _OTHER_NAMES.get(name, name)


def breaker_texts(value: Any) -> Any:
    """A list of texts, or one written as JSON, as text-generation-webui's clients send it."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise fault("should be a list of texts") from None
    if isinstance(value, list | tuple) and len(value) > MAX_BREAKERS:
        raise fault(f"at most {MAX_BREAKERS} texts")
    return tuple(value) if isinstance(value, list) else value


def _biases(value: Any) -> Any:
    """{"id": bias}, {"text": bias}, [[id, bias]] and [["text", bias]] as ((id or text, bias), ...);
    false bans."""
    if value is None:
        return ()
    if isinstance(value, dict):
        pairs: list[Any] = [(_id_or_text(key), bias) for key, bias in value.items()]
    elif isinstance(value, list):
        pairs = whole_in_lists(value)
    else:
        raise PydanticCustomError("dict_type", "should be an object of token ids and biases")
    if len(pairs) > MAX_BIASES:
        raise fault(f"at most {MAX_BIASES} token ids or texts")
    biases = tuple(_bias(pair) for pair in pairs)
    _check_size([what for what, _ in biases if isinstance(what, str)])
    return biases


def _id_or_text(key: str) -> int | str:
    return int(key) if key.isascii() and key.isdigit() and len(key) < 10 else key


def _bias(pair: Any) -> Bias:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise fault("should hold pairs of a token id or text and a bias")
    what, bias = pair
    is_id = type(what) is int and 0 <= what <= INT32_MAX
    is_text = isinstance(what, str) and 0 < len(what) <= MAX_WORD_CHARS
    if not (is_id or is_text):
        raise fault(f"should name token ids, or texts of 1 to {MAX_WORD_CHARS} characters")
    if bias is False:
        return what, None
    if type(bias) not in (int, float) or not -MAX_BIAS <= bias <= MAX_BIAS:
        raise fault(f"a bias should be a number from {-MAX_BIAS:g} to {MAX_BIAS:g}, or false")
    return what, float(bias)


def _check_size(texts: list[str]) -> None:
    if sum(map(len, texts)) > MAX_TEXT_CHARS:
        raise fault(f"at most {MAX_TEXT_CHARS} characters in all")


def _few_ids(value: Any) -> Any:
    if isinstance(value, list) and not 0 < len(value) <= MAX_ALLOWED_IDS:
        raise fault(f"should hold 1 to {MAX_ALLOWED_IDS} token ids")
    return value


def _few_words(value: Any) -> Any:
    if isinstance(value, list):
        if len(value) > MAX_BAD_WORDS:
            raise fault(f"at most {MAX_BAD_WORDS} words")
        _check_size([word for word in value if isinstance(word, str)])
    return value


_BiasIn = Annotated[float, Field(ge=-MAX_BIAS, le=MAX_BIAS)] | Literal[False]
_BiasedIn = Annotated[int, Field(ge=0, le=INT32_MAX)] | Annotated[str, Field(min_length=1)]
_BiasesIn = (
    dict[Annotated[str, Field(min_length=1)], _BiasIn] | list[tuple[_BiasedIn, _BiasIn]] | None
)
_SamplerName = Literal[
    "penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"
]
_SamplersIn = (
    Annotated[list[_SamplerName], Field(max_length=N_MAX)]
    | Annotated[str, StringConstraints(pattern="^[edskypmxt]*$", max_length=N_MAX)]
)
N = Annotated[int, Field(ge=0, le=INT32_MAX)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Samplers = Annotated[
    tuple[str, ...], BeforeValidator(sampler_names, json_schema_input_type=_SamplersIn)
]
_Breaker = Annotated[str, StringConstraints(min_length=1, max_length=MAX_BREAKER_CHARS)]
_BreakersIn = Annotated[list[_Breaker], Field(max_length=MAX_BREAKERS)]
BreakerTexts = Annotated[
    tuple[_Breaker, ...], BeforeValidator(breaker_texts, json_schema_input_type=_BreakersIn)
]
_Ids = Annotated[list[N], Field(fail_fast=True)]
_Word = Annotated[str, StringConstraints(min_length=1, max_length=MAX_WORD_CHARS)]


@with_fields(request_numbers())
class _Numbers(StrictModel):
    """A field for each of NUMBERS."""


class SamplingFields(_Numbers):
    """Honoured wherever tokens are drawn. None: the server's own default, as GET /props tells."""

    dry_sequence_breakers: BreakerTexts | None = None
    samplers: Samplers | None = None
    logit_bias: Annotated[
        tuple[Bias, ...], BeforeValidator(_biases, json_schema_input_type=_BiasesIn)
    ] = ()
    allowed_token_ids: Annotated[_Ids | None, BeforeValidator(_few_ids)] = None
    bad_words: Annotated[list[_Word] | None, BeforeValidator(_few_words)] = None
    seed: Seed | None = None  # -1: a random one

    @model_validator(mode="after")
    def _check_aliases(self) -> Self:
        for name, number in NUMBERS.items():
            for alias, _ in number.told.aliases:
                values = (getattr(self, name), getattr(self, alias))
                if None not in values and values[0] != values[1]:
                    raise fault(f"'{name}' and '{alias}' are the same and differ", name)
        return self

    def number(self, name: str) -> float | int | None:
        """What is said of one of NUMBERS, by whichever of its names; None: nothing."""
        names = (name, *(alias for alias, _ in NUMBERS[name].told.aliases))
        said = (value for name in names if (value := getattr(self, name)) is not None)
        return next(said, None)

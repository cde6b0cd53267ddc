"""What a request may say about how its tokens are drawn, and everything that is told of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from slotmux.runtime.sampling.told import INT32_MAX, Flag, Number, Told, numbers_of
from slotmux.runtime.token_sets import Breakers, TokenSequences, TokenSet

# Names and usual order of the samplers, as in llama-server.
SAMPLERS = (
    "penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature",
)  # fmt: skip
_PENALTY = (-1e4, 1e4)  # what logits bear


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is drawn. Order: allowed, logit_bias, penalties and dry if ``samplers``
    begins with them, bad_words; log-probabilities are of that; then what else ``samplers`` says.
    Defaults are the untouched distribution. What is annotated with Told is a parameter of requests
    by its name; those and the flags stand in the order of the fields."""

    # fmt: off
    temperature: Annotated[
        float,
        Told(
            0, 100, drawn=(0.0, math.inf), origin="OpenAI", setting="temp", key="temp",
            flag=Flag(
                "Temperature; 0: always the likeliest token. This and what follows: else as the"
                " file recommends, else as said here. [default: 0.8]", ("--temperature",), "T",
            ),
        ),
    ] = 1.0  # 0 = greedy
    top_k: Annotated[
        int,
        Told(
            -1, INT32_MAX, drawn=(0, math.inf), origin="vLLM", key="top_k",
            flag=Flag("Draw from so many tokens; 0: all. [default: 40]"),
        ),
    ] = 0  # 0 = off
    top_p: Annotated[
        float,
        Told(
            0, 1, origin="OpenAI", key="top_p",
            flag=Flag("Draw from the fewest that hold this share. [default: 0.95]", (), "P"),
        ),
    ] = 1.0
    min_p: Annotated[
        float,
        Told(
            0, 1, origin="vLLM", key="min_p",
            flag=Flag("Least share of the likeliest's. [default: 0.05]", (), "P"),
        ),
    ] = 0.0
    typical_p: Annotated[
        float,
        Told(
            0, 1, is_low_out=True, drawn=(0.0, 1.0), neutral=(1,),
            flag=Flag("Locally typical sampling; 1: off.", ("--typical",), "P"),
        ),
    ] = 1.0
    top_n_sigma: Annotated[
        float,
        Told(
            -1, 1000, drawn=(-math.inf, math.inf), neutral=(-1, 0),
            flag=Flag(
                "Standard deviations below the largest logit; -1: off.", ("--top-nsigma",), "N"
            ),
        ),
    ] = -1.0  # 0 and below = off
    xtc_probability: Annotated[
        float,
        Told(
            0, 1, neutral=(0,), key="xtc_probability",
            flag=Flag("How often top choices are excluded; 0: never.", (), "P"),
        ),
    ] = 0.0  # 0 = off
    xtc_threshold: Annotated[
        float,
        Told(
            0, 1, neutral=(0.1, 0), note="off without xtc_probability", key="xtc_threshold",
            flag=Flag("Share of a top choice; above 0.5: off. [default: 0.1]", (), "P"),
        ),
    ] = 0.1  # above 0.5 = off
    dynatemp_range: Annotated[
        float,
        Told(
            0, 100, drawn=(0.0, 1e4), neutral=(0,),
            flag=Flag("How far entropy moves the temperature; 0: off.", (), "T"),
        ),
    ] = 0.0  # 0 = off
    dynatemp_exponent: Annotated[
        float,
        Told(
            0, 100, drawn=(0.0, 1e3), neutral=(1,), setting="dynatemp_exp",
            flag=Flag("How entropy becomes temperature. [default: 1]", (), "X"),
        ),
    ] = 1.0
    repeat_penalty: Annotated[
        float,
        Told(
            0.01, 100, drawn=(1e-4, 1e4), key="penalty_repeat",
            aliases=(("repetition_penalty", "vLLM"),),
            flag=Flag("Divides logits of tokens that came; 1: off.", (), "X"),
        ),
    ] = 1.0
    repeat_last_n: Annotated[
        int,
        Told(
            -1, INT32_MAX, neutral=(64,), key="penalty_last_n",
            flag=Flag("Tokens that penalties look at; -1: all. [default: 64]"),
        ),
    ] = 64  # tokens of prompt and output; -1 = all, 0 = off
    presence_penalty: Annotated[
        float,
        Told(
            -100, 100, drawn=_PENALTY, neutral=(0,), origin="OpenAI",
            flag=Flag("Taken off logits of tokens that came; 0: off.", (), "X"),
        ),
    ] = 0.0
    frequency_penalty: Annotated[
        float,
        Told(
            -100, 100, drawn=_PENALTY, neutral=(0,), origin="OpenAI",
            flag=Flag("The same, for each time that they came; 0: off.", (), "X"),
        ),
    ] = 0.0
    dry_multiplier: Annotated[
        float,
        Told(
            0, 100, drawn=(0.0, 1e6), neutral=(0,),
            flag=Flag("Penalty for going on with a repetition; 0: off.", (), "X"),
        ),
    ] = 0.0  # 0 = off
    dry_base: Annotated[
        float,
        Told(  # below 1, as in llama-server: the default
            0, 100, drawn=(0.0, 1e6), neutral=(1.75, 0), note="off without dry_multiplier",
            flag=Flag("Its growth with each token repeated. [default: 1.75]", (), "X"),
        ),
    ] = 1.75  # below 1 = off
    dry_allowed_length: Annotated[
        int,
        Told(
            0, INT32_MAX, neutral=(2,),
            flag=Flag("Repeated tokens that cost nothing. [default: 2]"),
        ),
    ] = 2
    dry_penalty_last_n: Annotated[
        int,
        Told(
            -1, INT32_MAX, neutral=(-1, 0),
            flag=Flag("Tokens looked at for repetitions; -1: all. [default: -1]"),
        ),
    ] = -1  # tokens of prompt and output; -1 = all, 0 = off
    dry_breakers: Breakers | None = None
    mirostat: Annotated[
        int,
        Told(
            0, 2, neutral=(0,), key="mirostat",
            flag=Flag("Mirostat, version 1 or 2; 0: off. [default: 0]"),
        ),
    ] = 0  # 1, 2: instead of all samplers but penalties, dry and temperature
    mirostat_eta: Annotated[
        float,
        Told(
            0, 100, neutral=(0.1,), note="off without mirostat",
            setting="mirostat_lr", key="mirostat_eta",
            flag=Flag("Its learning rate, eta. [default: 0.1]", (), "X"),
        ),
    ] = 0.1
    mirostat_tau: Annotated[
        float,
        Told(
            0, 100, neutral=(5,), note="off without mirostat",
            setting="mirostat_ent", key="mirostat_tau",
            flag=Flag("Its target surprise in bits, tau. [default: 5]", (), "X"),
        ),
    ] = 5.0  # the surprise to come to, in bits
    # fmt: on
    # candidates that typ_p, top_p, min_p and xtc leave at least
    min_keep: Annotated[int, Told(0, INT32_MAX, neutral=(0,))] = 0
    logit_bias: tuple[tuple[int, float], ...] = ()  # -inf bans a token
    seed: int = 0  # the random number of a draw is a function of (seed, position, purpose)
    n_logprobs: int = -1  # -1 = none, 0 = the drawn token's only, up to 20 = top alternatives too
    samplers: tuple[str, ...] = SAMPLERS  # what is not named is off
    allowed: TokenSet | None = None  # None = all
    bad_words: TokenSequences | None = None  # never drawn one after the other


NUMBERS: Mapping[str, Number] = numbers_of(SamplingParams)

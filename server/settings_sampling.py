"""What the operator says about sampling: what a request gets that does not say. None leaves it to
the file, and then to llama-server's defaults (server/loading/sampling.py)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel
from pydantic_settings import NoDecode

from slotmux.server.schemas.sampling import (
    DryBase,
    LastN,
    Mirostat,
    N,
    Penalty,
    RepeatPenalty,
    Samplers,
    Seed,
    Share,
    Spread,
    Temperature,
    TopK,
    TopNSigma,
    TypicalP,
)


class SamplingSettings(BaseModel):
    """Fields of Settings, named as llama-server's flags."""

    temp: Temperature | None = None
    top_k: TopK | None = None
    top_p: Share | None = None
    min_p: Share | None = None
    typical_p: TypicalP | None = None
    top_n_sigma: TopNSigma | None = None
    xtc_probability: Share | None = None
    xtc_threshold: Share | None = None
    dynatemp_range: Spread | None = None
    dynatemp_exp: Spread | None = None
    repeat_penalty: RepeatPenalty | None = None
    repeat_last_n: LastN | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    dry_multiplier: Spread | None = None
    dry_base: DryBase | None = None
    dry_allowed_length: N | None = None
    dry_penalty_last_n: LastN | None = None
    mirostat: Mirostat | None = None
    mirostat_lr: Spread | None = None
    mirostat_ent: Spread | None = None
    samplers: Annotated[Samplers | None, NoDecode] = None
    seed: Seed | None = None

"""What the operator says about sampling: what a request gets that does not say. None leaves it to
the file, and then to llama-server's defaults (server/loading/sampling.py)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel
from pydantic_settings import NoDecode

from slotmux.server.schemas.numbers import setting_numbers, with_fields
from slotmux.server.schemas.sampling import Samplers, Seed


@with_fields(setting_numbers())
class _Numbers(BaseModel):
    """A field for each of NUMBERS that has a flag."""


class SamplingSettings(_Numbers):
    """Fields of Settings, named as llama-server's flags."""

    samplers: Annotated[Samplers | None, NoDecode] = None
    seed: Seed | None = None

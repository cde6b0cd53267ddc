"""What kind of speculative decoding a model is served with."""

from __future__ import annotations

from dataclasses import replace

from slotmux.runtime.engine.config import MTP, SpecConfig
from slotmux.runtime.gguf import GGUFFile
from slotmux.runtime.models import has_mtp
from slotmux.server.loading.errors import CommandError
from slotmux.server.settings import Settings


def spec_config(settings: Settings, file: GGUFFile) -> SpecConfig:
    """The operator's choice; "auto" is the model's own block, if it has one.

    Raises CommandError when that block is asked for and missing.
    """
    types: tuple[str, ...] = settings.spec_type
    if types == ("auto",):
        types = (MTP,) if has_mtp(file) else ()
    elif types == ("none",):
        types = ()
    if not types or not settings.spec_draft_n_max:
        return SpecConfig()
    if MTP in types and not has_mtp(file):
        raise CommandError(f"--spec-type {MTP}: the model has no block for multi-token prediction")
    return SpecConfig(
        tuple(dict.fromkeys(types)),
        settings.spec_draft_n_max,
        settings.spec_draft_n_min,
        settings.spec_draft_p_min,
    )


def without_mtp(spec: SpecConfig) -> SpecConfig:
    """The same of a model whose block turned out to be of no use."""
    types = tuple(kind for kind in spec.types if kind != MTP)
    return replace(spec, types=types) if types else SpecConfig()

"""Why the router refuses a request, or what it says when a model's process is gone."""

from __future__ import annotations

import math

from slotmux.server.http.errors import ApiError, unavailable
from slotmux.server.loading.words import mib
from slotmux.server.router.fleet.member import Failure, Member

_PARAM = "model"


def not_loaded(member: Member) -> ApiError:
    """400: models are loaded by POST /models/load only."""
    return ApiError(
        400,
        f"The model '{member.name}' is not loaded (--no-models-autoload).",
        code="model_not_loaded",
        param=_PARAM,
    )


def no_place(member: Member, n_models: int) -> ApiError:
    """400: pinned models have all places, for ever."""
    return ApiError(
        400,
        f"The model '{member.name}' can never be loaded here: {n_models} may be at a time"
        " (--models-max), and as many are pinned.",
        code="model_too_large",
        param=_PARAM,
    )


def too_large(member: Member, parts: str, n_limit: int, n_pinned: int) -> ApiError:
    """400: it can never be loaded here; trying again would not help."""
    pinned = f", {mib(n_pinned)} of them for pinned models" if n_pinned else ""
    return ApiError(
        400,
        f"The model '{member.name}' can never be loaded here: it needs {parts}; there are"
        f" {mib(n_limit)} for all models (--mem-limit){pinned}.",
        code="model_too_large",
        param=_PARAM,
    )


def no_room(member: Member, seconds: float) -> ApiError:
    """503: models that are in use have the memory, or the places."""
    return unavailable(
        f"The model '{member.name}' needs {mib(member.n_planned)}, and other models were in use"
        f" for {seconds:g} s (--queue-timeout). Try again later.",
        "no_memory_for_model",
        retry_after=5,
    )


def load_failed(member: Member, failure: Failure, now: float) -> ApiError:
    """500: its process ended before the model could be used."""
    pause = max(1, math.ceil(failure.until - now))
    return ApiError(
        500,
        f"The model '{member.name}' could not be loaded: {failure.message}.",
        code="model_load_failed",
        param=_PARAM,
        headers={"Retry-After": str(pause)},
    )


def keeps_ending(member: Member, failure: Failure, now: float) -> ApiError:
    """503: it crashed several times in a row, and is not started again at once."""
    return unavailable(
        f"The model '{member.name}' ended {failure.n} times in a row ({failure.message}).",
        "model_crashed",
        retry_after=max(1, math.ceil(failure.until - now)),
    )


def crashed() -> ApiError:
    """503: its process ended while it computed an answer."""
    return unavailable("The process of the model has ended.", "model_crashed")


def was_unloaded(member: Member) -> ApiError:
    """503: while it was being loaded."""
    return unavailable(f"The model '{member.name}' was unloaded.", "model_unloaded")


def took_too_long(member: Member, seconds: float) -> str:
    """Why it failed."""
    return f"it took more than {seconds:g} s (--load-timeout)"


def is_pinned(member: Member) -> ApiError:
    """400: clients cannot unload it."""
    return ApiError(
        400,
        f"The model '{member.name}' is pinned (--models-config).",
        code="model_pinned",
        param=_PARAM,
    )

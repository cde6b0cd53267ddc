"""GET /metrics, /slots and /props: what operators look at. No text of any request is in them."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from slotmux.runtime.engine.config import SpecConfig
from slotmux.runtime.engine.core import Core
from slotmux.runtime.engine.request import EngineStoppedError
from slotmux.runtime.engine.stats import SlotStats
from slotmux.runtime.memory.told import Stretch, prefixes_of
from slotmux.server.answers.sampling import SamplingDefaults
from slotmux.server.http.auth import BySetting
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import (
    invalid,
    json_response,
    not_supported,
    shutting_down,
    unavailable,
)
from slotmux.server.openapi.operation import Operation
from slotmux.server.openapi.operators import PrefixCache, Props, SlotEntry
from slotmux.server.process.state import ServerState, state_of
from slotmux.server.routes.whose import digest

endpoints = Endpoints()
MAX_STRETCHES = 10_000  # of /debug/prefix
_FAIL_ON_NO_SLOT = {"fail_on_no_slot": {"enum": ["0", "1"], "default": "0"}}


@endpoints.get("/metrics", told=Operation(media="text/plain"), rule=BySetting("metrics"))
async def metrics(request: Request) -> Response:
    """Prometheus text."""
    state = state_of(request)
    return Response(state.metrics.render(), media_type=CONTENT_TYPE_LATEST)


@endpoints.get(
    "/slots",
    told=Operation(list[SlotEntry], query=_FAIL_ON_NO_SLOT),
    rule=BySetting("slots"),
)
async def slots(request: Request) -> Response:
    """Every slot; with ?fail_on_no_slot=1 a 503 when none is free."""
    stats = state_of(request).ready().loaded.engine.stats()
    wanted = request.query_params.get("fail_on_no_slot", "0")
    if wanted not in ("0", "1"):
        raise invalid("fail_on_no_slot", "Should be 0 or 1.")
    if wanted == "1" and stats.n_slots_busy >= len(stats.slots):
        raise unavailable("No slot is free.", "no_free_slot")
    return json_response([_slot(slot, stats.n_ctx) for slot in stats.slots])


@endpoints.get("/props", told=Operation(Props), rule=BySetting("props"))
async def props(request: Request) -> Response:
    """What the server is and what a request gets that does not say."""
    state = state_of(request)
    loaded = state.ready().loaded
    info = loaded.info
    params = _defaults(state, loaded.sampling) | _speculation(loaded.spec)
    return json_response(
        {
            "default_generation_settings": {"n_ctx": info.n_ctx, "params": params},
            "total_slots": info.n_slots,
            "capabilities": info.abilities,
            "pooling": info.pooling,
            "model_alias": info.name,
            "model_path": info.file_name,
            "modalities": {"vision": False, "audio": False},
            "chat_template": info.chat_template,
            "bos_token": info.bos_text,
            "eos_token": info.eos_text,
        }
    )


@endpoints.get("/debug/prefix", told=Operation(PrefixCache))
async def prefix_cache(request: Request) -> Response:
    """The prefix cache: its paths, how many blocks they have, which states are kept along them and
    in which order they are given up. No text, no tokens; owners are digests."""
    state = state_of(request)
    engine = state.ready().loaded.engine
    if not state.ready().loaded.info.n_slots:
        raise not_supported("This model keeps nothing of what it reads: there is no prefix cache.")
    errand = engine.errand(_prefixes)
    try:
        stretches, is_all = await asyncio.wrap_future(errand)
    except EngineStoppedError:
        raise shutting_down() from None
    disk = engine.stats().disk
    told = {"stretches": [asdict(s) for s in stretches], "is_all": is_all}
    return json_response(told | {"disk": asdict(disk) if disk is not None else None})


def _prefixes(core: Core) -> tuple[list[Stretch], bool]:
    index = core.tier.store.index if core.tier is not None else None
    return prefixes_of(core.memory, MAX_STRETCHES, index)


def _slot(slot: SlotStats, n_ctx: int) -> dict[str, Any]:
    return {
        "id": slot.id,
        "id_task": slot.request_id,
        "n_ctx": n_ctx,
        "is_processing": slot.state != "idle",
        "state": slot.state,
        "choice": slot.index,
        "n_prompt_tokens": slot.n_prompt,
        "n_prompt_tokens_cache": slot.n_cached,
        "n_computed": slot.n_computed,
        "n_decoded": slot.n_generated,
        "n_kv_blocks": slot.n_blocks,
        "n_states": int(slot.has_row),
        "client": digest(slot.client),
        "n_draft_total": slot.n_draft,
        "n_draft_accepted_total": slot.n_draft_accepted,
    }


def _speculation(spec: SpecConfig) -> dict[str, Any]:
    return {
        "speculative.types": list(spec.types),
        "speculative.n_max": spec.n_max,
        "speculative.n_min": spec.n_min,
        "speculative.p_min": spec.p_min,
    }


def _defaults(state: ServerState, defaults: SamplingDefaults) -> dict[str, Any]:
    params = asdict(defaults.params)
    for of_a_request in ("logit_bias", "n_logprobs", "dry_breakers", "allowed", "bad_words"):
        del params[of_a_request]
    return params | {
        "dry_sequence_breakers": list(defaults.dry_sequence_breakers),
        "samplers": list(defaults.params.samplers),
        "seed": defaults.seed,
        "max_tokens": state.settings.n_predict,
    }

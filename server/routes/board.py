"""GET /board: what the page's board shows, in one look. No text of any request is in it."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from slotmux.runtime.engine.stats import EngineStats, SlotStats
from slotmux.runtime.ubatch import BLOCK_CELLS
from slotmux.server.http.auth import BySetting
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import invalid, json_response
from slotmux.server.loading.budget import Budget
from slotmux.server.openapi import board as told
from slotmux.server.openapi.operation import Operation
from slotmux.server.process.history import WINDOW_S, History, Sample
from slotmux.server.process.state import ModelInfo, ServerState, state_of
from slotmux.server.routes.whose import digest
from slotmux.server.version import slotmux_version

endpoints = Endpoints()
_SINCE = {"since": {"type": "integer", "minimum": 0, "default": 0}}
_MAX_DIGITS = 15
_STATM = Path("/proc/self/statm")


@endpoints.get("/board", told=Operation(told.Board, query=_SINCE), rule=BySetting("slots"))
async def board(request: Request) -> Response:
    """Slots, queue, memory, caches, and the last minutes second by second: ?since=N leaves out what
    a client has seen."""
    since = request.query_params.get("since", "0")
    if not (since.isascii() and since.isdecimal() and len(since) <= _MAX_DIGITS):
        raise invalid("since", "Invalid 'since': should be the number of a sample.")
    body = _board(state_of(request), int(since), asyncio.get_running_loop().time())
    return json_response(body, headers={"Cache-Control": "no-store"})


def _board(state: ServerState, since: int, now: float) -> told.Board:
    """All of it; ``now`` is on the event loop's clock. Raises ApiError."""
    service = state.ready()
    service.history.observe(now)
    stats = service.loaded.engine.stats()
    budget = service.loaded.budget
    return {
        "time": time.time(),
        "server": _server(state, stats),
        "model": _model(service.loaded.info),
        "slots": [_slot(slot) for slot in stats.slots],
        "queue": {"n_waiting": stats.n_queued, "n_max": state.settings.max_queue},
        "cells": _cells(stats),
        "states": {
            "n_rows": stats.n_rows,
            "n_free": stats.n_rows_free,
            "n_checkpoints": stats.n_checkpoints,
        },
        "cache": _cache(stats),
        "drafts": {
            "n_drafted": stats.counters.n_draft_tokens,
            "n_accepted": stats.counters.n_draft_accepted,
        },
        "totals": _totals(stats),
        "memory": _memory(budget) if budget is not None else None,
        "resident_bytes": _resident_bytes(),
        "latency": _latency(service.history, stats),
        "samples": [_sample(sample, now) for sample in service.history.since(since)],
    }


def _server(state: ServerState, stats: EngineStats) -> told.ServerFacts:
    return {
        "version": slotmux_version(),
        "uptime_s": max(0, int(time.time()) - state.started),
        "is_draining": stats.is_draining,
    }


def _model(info: ModelInfo) -> told.ModelFacts:
    return {
        "name": info.name,
        "architecture": info.architecture,
        "n_params": info.n_params,
        "n_bytes": info.n_bytes,
        "n_ctx": info.n_ctx,
        "n_ctx_train": info.n_ctx_train,
    }


def _slot(slot: SlotStats) -> told.BoardSlot:
    """Rates are the choice's own: tokens after its first one, over the time since then."""
    n_after = max(0, slot.n_generated - 1)
    return {
        "id": slot.id,
        "state": slot.state,
        "request": slot.request_id,
        "choice": slot.index,
        "client": digest(slot.client),
        "session": digest(slot.session),
        "priority": slot.priority,
        "n_prompt": slot.n_prompt,
        "n_cached": slot.n_cached,
        "n_computed": slot.n_computed,
        "n_generated": slot.n_generated,
        "n_limit": slot.n_limit,
        "n_cells": slot.n_blocks * BLOCK_CELLS,
        "n_states": int(slot.has_row),
        "running_s": round(slot.running_s, 3),
        "tokens_per_second": round(n_after / slot.generating_s, 2) if slot.generating_s else 0.0,
        "n_drafted": slot.n_choice_draft,
        "n_accepted": slot.n_choice_draft_accepted,
        "n_drafted_total": slot.n_draft,
        "n_accepted_total": slot.n_draft_accepted,
    }


def _cells(stats: EngineStats) -> told.Cells:
    return {
        "n_total": stats.n_blocks * BLOCK_CELLS,
        "n_free": stats.n_blocks_free * BLOCK_CELLS,
        "n_cached": stats.n_blocks_cached * BLOCK_CELLS,
    }


def _cache(stats: EngineStats) -> told.Cache:
    c = stats.counters
    return {
        "n_queried": c.n_prompt_tokens_queried,
        "n_reused": c.n_prompt_tokens_cached,
        "misses": {str(cause): n for cause, n in sorted(c.cache_misses.items()) if cause},
    }


def _totals(stats: EngineStats) -> told.Totals:
    c = stats.counters
    return {
        "n_requests": c.n_requests,
        "n_prompt": c.n_prompt_tokens,
        "n_generated": c.n_generated_tokens,
        "n_steps": c.n_steps,
        "n_parked": c.n_parked,
        "n_rejected": sum(c.rejected.values()),
        "finished": dict(c.finished),
    }


def _memory(budget: Budget) -> told.MemoryParts:
    return {
        "weights": budget.weights_bytes,
        "cells": budget.kv_bytes,
        "states": budget.state_bytes,
        "buffers": budget.sizes.buffers,
        "prefix_cache": budget.cache_bytes + budget.staged_bytes + budget.index_bytes,
        "total": budget.total_bytes,
    }


def _resident_bytes() -> int | None:
    """Of this process; None where the system does not tell it so."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _latency(history: History, stats: EngineStats) -> told.Latency:
    def ms(seconds: float | None) -> float | None:
        return None if seconds is None else round(seconds * 1000, 2)

    (gap_50, first_50), (gap_95, first_95) = (history.quantiles(stats, q) for q in (0.5, 0.95))
    return {
        "window_s": WINDOW_S,
        "token_ms_p50": ms(gap_50),
        "token_ms_p95": ms(gap_95),
        "first_ms_p50": ms(first_50),
        "first_ms_p95": ms(first_95),
    }


def _sample(sample: Sample, now: float) -> told.BoardSample:
    return {
        "number": sample.number,
        "age_s": round(now - sample.at, 3),
        "prompt_per_second": round(sample.n_prompt / sample.seconds, 2),
        "generated_per_second": round(sample.n_generated / sample.seconds, 2),
        "n_cached": sample.n_cached,
        "n_busy": sample.n_busy,
        "n_queued": sample.n_queued,
        "token_ms": round(sample.gaps_s / sample.n_gaps * 1000, 3) if sample.n_gaps else None,
        "first_ms": round(sample.first_s / sample.n_first * 1000, 3) if sample.n_first else None,
    }

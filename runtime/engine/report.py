"""Snapshots of a running core for other threads; reads counts, never memory itself."""

from __future__ import annotations

import time
from copy import deepcopy

from slotmux.runtime.engine.core import Core
from slotmux.runtime.engine.slots import Slot
from slotmux.runtime.engine.stats import EngineStats, MemoryBytes, SlotStats
from slotmux.runtime.memory import Memory


def engine_stats(
    core: Core, *, n_inbox: int, heartbeat_age_s: float, is_draining: bool
) -> EngineStats:
    """What /metrics and /slots show. Any thread; values may be a step apart."""
    now = time.monotonic()
    slots = tuple(_slot_stats(slot, now) for slot in core.slots)
    memory = core.memory
    meter = core.meter
    return EngineStats(
        slots=slots,
        n_ctx=memory.n_ctx,
        n_queued=core.n_queued + n_inbox,
        n_slots_busy=sum(slot.state != "idle" for slot in slots),
        n_blocks=memory.n_blocks,
        n_blocks_free=memory.n_blocks_free,
        n_blocks_cached=memory.n_blocks_cached,
        n_rows=memory.n_rows,
        n_rows_free=memory.n_rows_free,
        n_checkpoints=memory.n_checkpoints,
        counters=deepcopy(meter.counters),
        step=meter.step.snapshot(),
        ttft=meter.ttft.snapshot(),
        itl=meter.itl.snapshot(),
        e2e=meter.e2e.snapshot(),
        queue=meter.queue.snapshot(),
        prompt=meter.prompt.snapshot(),
        generate=meter.generate.snapshot(),
        heartbeat_age_s=heartbeat_age_s,
        progress=core.progress,
        max_step_s=meter.max_step_s,
        is_draining=is_draining,
        memory=_memory_bytes(memory),
        disk=core.tier.stats() if core.tier is not None else None,
    )


def _memory_bytes(memory: Memory) -> MemoryBytes:
    pools = memory.pools
    block, row = pools.blocks.block_bytes, pools.rows.row_bytes
    n_rows = sum(seq.row >= 0 for seq in memory.sequences)
    return MemoryBytes(
        running=pools.blocks.n_held * block + n_rows * row,
        most=memory.n_blocks * block + len(memory.sequences) * row,
        kept_cells=pools.blocks.n_idle * block,
        kept_states=memory.n_checkpoints * row,
        index=pools.tree.n_bytes,
        limit=pools.budget.limit or 0,
    )


def _slot_stats(slot: Slot, now: float) -> SlotStats:
    choice = slot.choice  # one read: the engine thread may empty the slot meanwhile
    if choice is None:
        drafts = (slot.n_drafts, slot.n_drafts_accepted)
        return SlotStats(slot.id, "idle", 0, 0, 0, 0, 0, 0, 0, *drafts)
    return SlotStats(
        id=slot.id,
        state=slot.state,
        request_id=choice.job.request.id,
        index=choice.index,
        n_prompt=choice.n_prompt,
        n_cached=choice.n_cached,
        n_computed=slot.seq.n_computed,
        n_generated=choice.n_generated,
        n_blocks=len(slot.seq.table),
        n_draft=slot.n_drafts,
        n_draft_accepted=slot.n_drafts_accepted,
        client=choice.client,
        session=choice.session,
        priority=choice.priority,
        n_limit=choice.n_limit,
        has_row=slot.seq.row >= 0,
        # A choice that is just being put into the slot has no time yet.
        running_s=now - choice.t_admitted if choice.t_admitted else 0.0,
        generating_s=now - choice.t_first if choice.t_first else 0.0,
        n_choice_draft=choice.n_draft,
        n_choice_draft_accepted=choice.n_draft_accepted,
    )

"""What an operator can change about a plan that does not fit: flags, with values that do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from slotmux.server.loading.budget import BASE_BYTES, Budget
from slotmux.server.loading.errors import CommandError
from slotmux.server.loading.room import room_of_slots
from slotmux.server.loading.words import mib
from slotmux.server.settings import Settings, told_as

_LEAST_CTX = 16  # tokens: less than a block serves nobody


def remedy(settings: Settings, budget: Budget, n_ctx_train: int, limit: int) -> str:
    """Each way alone that brings a server's memory down to ``limit`` bytes, kept prefixes given up
    where they have to be; "" where the plan fits. Ways are counted with the same sizes of a cell
    and a state, so that what is named does fit."""
    if budget.total_bytes <= limit:
        return ""
    bare = replace(budget, cache_bytes=0)
    if budget.cache_bytes and bare.total_bytes <= limit:
        return f"{told_as('prefix_cache_bytes')} {limit - bare.total_bytes} would fit"
    ways = _ways(settings, bare, n_ctx_train, limit)
    if not ways:
        return _no_way(bare)
    asked = settings.prefix_cache_bytes > 0
    before = f"with {told_as('prefix_cache_bytes')} 0, " if asked else ""
    return f"{before}{' or '.join(ways)} would fit"


def _ways(settings: Settings, bare: Budget, n_ctx_train: int, limit: int) -> list[str]:
    def fits(**change: int) -> bool:
        try:
            room = room_of_slots(settings.model_copy(update=change), n_ctx_train)
        except CommandError:
            return False
        sizes = (room.n_slots, room.n_ctx, room.n_cells)
        changed = replace(bare, n_slots=sizes[0], n_ctx=sizes[1], n_cells=sizes[2])
        return changed.total_bytes <= limit

    ways = []
    if bare.staged_bytes and bare.total_bytes - bare.staged_bytes <= limit:
        ways.append(f"no {told_as('prefix_cache_dir')}")
    for field, least, most in (
        ("ctx_size", _LEAST_CTX, bare.n_ctx),
        ("kv_size", settings.ctx_size or _LEAST_CTX, bare.n_cells),
        ("parallel", 1, bare.n_slots),
    ):
        n = _most(least, most, lambda n, field=field: fits(**{field: n}))  # type: ignore[misc]
        if n:
            ways.append(f"{told_as(field)} {n}")
    if not ways:
        n = _most(_LEAST_CTX, bare.n_ctx, lambda n: fits(parallel=1, ctx_size=n, kv_size=0))
        if n:
            ways.append(f"{told_as('parallel')} 1 {told_as('ctx_size')} {n}")
    return ways


def _most(least: int, most: int, fits: Callable[[int], bool]) -> int:
    """The greatest number below ``most`` that fits; 0 where not even ``least`` does. What fits
    fits with fewer, too."""
    if least >= most or not fits(least):
        return 0
    low, high = least, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _no_way(bare: Budget) -> str:
    """Neither slots nor contexts are to blame."""
    fixed = bare.weights_bytes + bare.sizes.buffers + BASE_BYTES
    what = f"weights, buffers and the process itself take {mib(fixed)}"
    return f"{what}: a file of fewer bits a weight, or more memory, is needed"

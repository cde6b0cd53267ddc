"""Which cached thing goes first: least recently used, but no owner is squeezed below its share.

An owner is a cache salt. Plain LRU would let one client flush everybody else's prefixes by sending
many distinct ones; here only owners that hold at least the average may lose something.

Owners are clients' to invent, so a choice must not look at each: those that hold equally many stand
in one heap by their oldest key. N keys have at most sqrt(2 N) such numbers above the average, and a
crowd of small owners has one or two.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heapify, heappop, heappush

# When the owner's oldest key was used, that key, the owner.
Entry = tuple[int, int, str]


class FairLru:
    """Keys (block or row ids) of several owners in order of last use. A key is present once."""

    __slots__ = ("_by_owner", "_by_size", "_clock", "_n", "_n_entries")

    def __init__(self) -> None:
        self._by_owner: dict[str, OrderedDict[int, int]] = {}
        self._by_size: dict[
            int, list[Entry]
        ] = {}  # heaps; entries that are out of date stay a while
        self._clock = 0
        self._n = 0
        self._n_entries = 0

    def __len__(self) -> int:
        return self._n

    def add(self, owner: str, key: int) -> None:
        """Add a key as the most recently used one."""
        keys = self._by_owner.get(owner)
        if keys is None:
            keys = self._by_owner[owner] = OrderedDict()
        assert key not in keys
        self._clock += 1
        keys[key] = self._clock
        self._n += 1
        self._enter(owner)

    def remove(self, owner: str, key: int) -> None:
        """Forget a key that is present."""
        keys = self._by_owner[owner]
        del keys[key]
        self._n -= 1
        if not keys:
            del self._by_owner[owner]
        else:
            self._enter(owner)

    def touch(self, owner: str, key: int) -> None:
        """Make a present key the most recently used one."""
        keys = self._by_owner[owner]
        self._clock += 1
        keys[key] = self._clock
        keys.move_to_end(key)
        self._enter(owner)

    def oldest(self, besides: int = -1) -> int:
        """The key to give up next, or -1; never ``besides``. Changes nothing."""
        if not self._n:
            return -1
        share = self._n / len(self._by_owner)
        tops = [
            top
            for size in list(self._by_size)
            if size >= share and (top := self._top(size, besides)) is not None
        ]
        if tops:
            return min(tops)[1]
        return next((k for keys in self._by_owner.values() for k in keys if k != besides), -1)

    def keys(self) -> list[int]:
        """All keys, oldest first within each owner."""
        return [key for keys in self._by_owner.values() for key in keys]

    def _enter(self, owner: str) -> None:
        """Note how many keys the owner holds now, and its oldest."""
        if self._n_entries > 64 + 4 * len(self._by_owner):
            self._rebuild()
            return
        size, entry = self._entry(owner)
        heappush(self._by_size.setdefault(size, []), entry)
        self._n_entries += 1

    def _entry(self, owner: str) -> tuple[int, Entry]:
        keys = self._by_owner[owner]
        key, stamp = next(iter(keys.items()))
        return len(keys), (stamp, key, owner)

    def _rebuild(self) -> None:
        """Without what is out of date: so rarely that each change pays little for it."""
        self._by_size = {}
        for owner in self._by_owner:
            size, entry = self._entry(owner)
            self._by_size.setdefault(size, []).append(entry)
        for heap in self._by_size.values():
            heapify(heap)
        self._n_entries = len(self._by_owner)

    def _top(self, size: int, besides: int) -> Entry | None:
        """The oldest of owners that hold ``size`` keys, but those whose oldest is ``besides``."""
        heap = self._by_size[size]
        passed: Entry | None = None
        top: Entry | None = None
        while heap and top is None:
            entry = heap[0]
            if entry[2] not in self._by_owner or self._entry(entry[2]) != (size, entry):
                self._drop(heap)
            elif entry[1] == besides:
                passed = entry
                self._drop(heap)
            else:
                top = entry
        if passed is not None:
            heappush(heap, passed)
            self._n_entries += 1
        if not heap:
            del self._by_size[size]
        return top

    def _drop(self, heap: list[Entry]) -> None:
        heappop(heap)
        self._n_entries -= 1

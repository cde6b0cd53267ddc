"""Which cached thing goes first: least recently used, but no owner is squeezed below its share.

An owner is a cache salt. Plain LRU would let one client flush everybody else's prefixes by sending
many distinct ones; here only owners that hold at least the average may lose something.
"""

from __future__ import annotations

from collections import OrderedDict


class FairLru:
    """Keys (block or row ids) of several owners in order of last use. A key is present once."""

    __slots__ = ("_by_owner", "_clock", "_n")

    def __init__(self) -> None:
        self._by_owner: dict[str, OrderedDict[int, int]] = {}
        self._clock = 0
        self._n = 0

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

    def remove(self, owner: str, key: int) -> None:
        """Forget a key that is present."""
        keys = self._by_owner[owner]
        del keys[key]
        self._n -= 1
        if not keys:
            del self._by_owner[owner]

    def touch(self, owner: str, key: int) -> None:
        """Make a present key the most recently used one."""
        keys = self._by_owner[owner]
        self._clock += 1
        keys[key] = self._clock
        keys.move_to_end(key)

    def oldest(self, besides: int = -1) -> int:
        """The key to give up next, or -1; never ``besides``. Changes nothing."""
        if not self._n:
            return -1
        share = self._n / len(self._by_owner)
        best = -1
        best_stamp = self._clock + 1
        for keys in self._by_owner.values():
            if len(keys) < share:
                continue
            key, stamp = next(iter(keys.items()))
            if key != besides and stamp < best_stamp:
                best, best_stamp = key, stamp
        if best < 0 and besides >= 0:
            best = next((key for key in self.keys() if key != besides), -1)
        return best

    def keys(self) -> list[int]:
        """All keys, oldest first within each owner."""
        return [key for keys in self._by_owner.values() for key in keys]

"""Which cached thing goes first: the least of it all, but no owner is squeezed below its share.

An owner is a cache salt. Plain LRU would let one client flush everybody else's prefixes by sending
many distinct ones; here only owners that hold at least the average may lose something.

Owners are clients' to invent, so a choice must not look at each: those that hold equally many stand
in one heap by their least key. N keys have at most sqrt(2 N) such numbers above the average, and a
crowd of small owners has one or two.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from typing import Protocol

# What the owner's least key is worth, that key, the owner.
Entry = tuple[float, int, str]


class Order(Protocol):
    """One owner's keys, each with a value; the least comes first."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[int]:
        """The keys, the least first as far as that is known."""

    def put(self, key: int, value: float) -> None:
        """Add a key, or give it another value."""

    def remove(self, key: int) -> None:
        """Forget a key."""

    def value(self, key: int) -> float:
        """What a present key is worth."""

    def first(self) -> tuple[float, int]:
        """The least value and its key. There must be one."""


class ByAge:
    """Values that only grow: what was put last is the greatest."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: OrderedDict[int, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[int]:
        return iter(self._values)

    def put(self, key: int, value: float) -> None:
        self._values[key] = value
        self._values.move_to_end(key)

    def remove(self, key: int) -> None:
        del self._values[key]

    def value(self, key: int) -> float:
        return self._values[key]

    def first(self) -> tuple[float, int]:
        key, value = next(iter(self._values.items()))
        return value, key


class ByWorth(ByAge):
    """Any values: a heap beside them, in which what is out of date stays a while."""

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[tuple[float, int]] = []

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._values, key=lambda key: (self._values[key], key)))

    def put(self, key: int, value: float) -> None:
        self._values[key] = value
        heappush(self._heap, (value, key))
        if len(self._heap) > 16 + 4 * len(self._values):
            self._heap = [(value, key) for key, value in self._values.items()]
            heapify(self._heap)

    def first(self) -> tuple[float, int]:
        while self._values.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0]


class FairOrder:
    """Keys (block or row ids) of several owners by value. A key is present once."""

    __slots__ = ("_by_owner", "_by_size", "_n", "_n_entries", "_new_order")

    def __init__(self, new_order: Callable[[], Order]) -> None:
        self._new_order = new_order
        self._by_owner: dict[str, Order] = {}
        # Heaps; entries that are out of date stay a while.
        self._by_size: dict[int, list[Entry]] = {}
        self._n = 0
        self._n_entries = 0

    def __len__(self) -> int:
        return self._n

    def add(self, owner: str, key: int, value: float) -> None:
        """Add a key that is not present."""
        keys = self._by_owner.get(owner)
        if keys is None:
            keys = self._by_owner[owner] = self._new_order()
        keys.put(key, value)
        self._n += 1
        self._enter(owner)

    def remove(self, owner: str, key: int) -> None:
        """Forget a key that is present."""
        keys = self._by_owner[owner]
        keys.remove(key)
        self._n -= 1
        if not len(keys):
            del self._by_owner[owner]
        else:
            self._enter(owner)

    def change(self, owner: str, key: int, value: float) -> None:
        """Give a present key another value."""
        self._by_owner[owner].put(key, value)
        self._enter(owner)

    def value(self, owner: str, key: int) -> float:
        """What a present key is worth."""
        return self._by_owner[owner].value(key)

    def first(self, besides: int = -1) -> Entry | None:
        """What to give up next, if there is anything; never ``besides``. Changes nothing."""
        if not self._n:
            return None
        share = self._n / len(self._by_owner)
        tops = [
            top
            for size in list(self._by_size)
            if size >= share and (top := self._top(size, besides)) is not None
        ]
        if tops:
            return min(tops)
        rest = ((k, owner) for owner, keys in self._by_owner.items() for k in keys if k != besides)
        return next(((0.0, key, owner) for key, owner in rest), None)

    def keys(self) -> list[int]:
        """All keys, the least first within each owner."""
        return [key for keys in self._by_owner.values() for key in keys]

    def _enter(self, owner: str) -> None:
        """Note how many keys the owner holds now, and its least."""
        if self._n_entries > 64 + 4 * len(self._by_owner):
            self._rebuild()
            return
        size, entry = self._entry(owner)
        heappush(self._by_size.setdefault(size, []), entry)
        self._n_entries += 1

    def _entry(self, owner: str) -> tuple[int, Entry]:
        keys = self._by_owner[owner]
        value, key = keys.first()
        return len(keys), (value, key, owner)

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
        """The least of owners that hold ``size`` keys, but those whose least is ``besides``."""
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


class FairLru:
    """FairOrder by last use."""

    __slots__ = ("_clock", "_order")

    def __init__(self) -> None:
        self._order = FairOrder(ByAge)
        self._clock = 0

    def __len__(self) -> int:
        return len(self._order)

    def add(self, owner: str, key: int) -> None:
        """Add a key as the most recently used one."""
        self._clock += 1
        self._order.add(owner, key, self._clock)

    def remove(self, owner: str, key: int) -> None:
        """Forget a key that is present."""
        self._order.remove(owner, key)

    def touch(self, owner: str, key: int) -> None:
        """Make a present key the most recently used one."""
        self._clock += 1
        self._order.change(owner, key, self._clock)

    def oldest(self, besides: int = -1) -> int:
        """The key to give up next, or -1; never ``besides``. Changes nothing."""
        entry = self._order.first(besides)
        return entry[1] if entry is not None else -1

    def keys(self) -> list[int]:
        """All keys, oldest first within each owner."""
        return self._order.keys()

"""Which cached thing goes first: the least of it all, but no owner is squeezed below its share.

An owner is a cache salt: an API key, a salt of its own, an adapter. Plain LRU would let one client
flush everybody else's prefixes by sending many distinct ones; here only owners that hold at least
the average may lose something, in bytes.

Owners are clients' to invent, so a choice must not look at each: those that hold about equally much
(within an eighth) stand in one heap by their least key. Of such classes there are eight in an
octave, however many owners and keys there are.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

# What an owner's least key is worth, when it was put, the key, the owner.
Entry = tuple[float, int, int, str]
EXACT = 16  # weights below are a class each


def weight_class(weight: int) -> int:
    """Grows with the weight; weights of one class differ by less than an eighth."""
    if weight < EXACT:
        return weight
    shift = weight.bit_length() - 4
    return 8 * (shift + 1) + (weight >> shift) - 8


class ByWorth:
    """One owner's keys by value, those of equal value in the order in which they were put."""

    __slots__ = ("_heap", "_values", "weight")

    def __init__(self) -> None:
        self.weight = 0
        self._values: dict[int, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, int]] = []  # what is out of date stays a while

    def __len__(self) -> int:
        return len(self._values)

    def all(self) -> list[int]:
        """Every key."""
        return list(self._values)

    def put(self, key: int, value: float, turn: int) -> None:
        """Add a key, or give it another value; ``turn`` grows with each."""
        self._values[key] = value, turn
        heappush(self._heap, (value, turn, key))
        if len(self._heap) > 16 + 4 * len(self._values):
            self._heap = [(value, turn, key) for key, (value, turn) in self._values.items()]
            heapify(self._heap)

    def remove(self, key: int) -> None:
        """Forget a key."""
        del self._values[key]

    def value(self, key: int) -> float:
        """What a present key is worth."""
        return self._values[key][0]

    def first(self) -> tuple[float, int, int]:
        """The least value, its turn and its key. There must be one."""
        heap, values = self._heap, self._values
        while values.get(heap[0][2]) != heap[0][:2]:
            heappop(heap)
        return heap[0]


class FairOrder:
    """Keys of several owners by value. A key is present once; what an owner holds is told by
    ``weigh``, whether or not it can be given up."""

    __slots__ = ("_by_class", "_n", "_n_entries", "_owners", "_turn", "_weight")

    def __init__(self) -> None:
        self._owners: dict[str, ByWorth] = {}  # that hold a key or weight
        # Heaps; entries that are out of date stay a while.
        self._by_class: dict[int, list[Entry]] = {}
        self._n = 0
        self._n_entries = 0
        self._turn = 0
        self._weight = 0

    def __len__(self) -> int:
        return self._n

    def weigh(self, owner: str, weight: int) -> None:
        """The owner holds so much more, or less."""
        keys = self._of(owner)
        before = weight_class(keys.weight)
        keys.weight += weight
        self._weight += weight
        if not self._forget_if_empty(owner, keys) and weight_class(keys.weight) != before:
            self._enter(owner, keys)

    def weight(self, owner: str) -> int:
        """How much the owner holds."""
        keys = self._owners.get(owner)
        return keys.weight if keys is not None else 0

    def put(self, owner: str, key: int, value: float) -> None:
        """Add a key, or give a present one another value."""
        keys = self._of(owner)
        self._n -= len(keys)
        self._turn += 1
        keys.put(key, value, self._turn)
        self._n += len(keys)
        self._enter(owner, keys)

    def remove(self, owner: str, key: int) -> None:
        """Forget a key that is present."""
        keys = self._owners[owner]
        keys.remove(key)
        self._n -= 1
        if not self._forget_if_empty(owner, keys):
            self._enter(owner, keys)

    def value(self, owner: str, key: int) -> float:
        """What a present key is worth."""
        return self._owners[owner].value(key)

    def first(self) -> Entry | None:
        """What to give up next, if there is anything."""
        if not self._n:
            return None
        share = weight_class(self._weight // len(self._owners))
        rich = [top for c in list(self._by_class) if c >= share and (top := self._top(c))]
        if rich:
            return min(rich)
        return min(top for c in list(self._by_class) if (top := self._top(c)))

    def all(self) -> list[int]:
        """Every key."""
        return [key for keys in self._owners.values() for key in keys.all()]

    def _of(self, owner: str) -> ByWorth:
        keys = self._owners.get(owner)
        if keys is None:
            keys = self._owners[owner] = ByWorth()
        return keys

    def _forget_if_empty(self, owner: str, keys: ByWorth) -> bool:
        is_empty = not len(keys) and not keys.weight
        if is_empty:
            del self._owners[owner]
        return is_empty

    def _enter(self, owner: str, keys: ByWorth) -> None:
        """Note how much the owner holds now, and its least."""
        if not len(keys):
            return
        if self._n_entries > 64 + 4 * len(self._owners):
            self._rebuild()
            return
        heappush(self._by_class.setdefault(weight_class(keys.weight), []), (*keys.first(), owner))
        self._n_entries += 1

    def _rebuild(self) -> None:
        """Without what is out of date: so rarely that each change pays little for it."""
        self._by_class = {}
        self._n_entries = 0
        for owner, keys in self._owners.items():
            if len(keys):
                heap = self._by_class.setdefault(weight_class(keys.weight), [])
                heap.append((*keys.first(), owner))
                self._n_entries += 1
        for heap in self._by_class.values():
            heapify(heap)

    def _top(self, weight_class_: int) -> Entry | None:
        """The least of owners of one class."""
        heap = self._by_class[weight_class_]
        while heap:
            entry = heap[0]
            if self._is_current(entry, weight_class_):
                return entry
            heappop(heap)
            self._n_entries -= 1
        del self._by_class[weight_class_]
        return None

    def _is_current(self, entry: Entry, weight_class_: int) -> bool:
        keys = self._owners.get(entry[3])
        if keys is None or not len(keys) or weight_class(keys.weight) != weight_class_:
            return False
        return keys.first() == entry[:3]

"""Free places of a pool, and which places have memory at all: it comes and goes by segments."""

from __future__ import annotations

from collections.abc import Iterable


class Segments:
    """``n`` places in segments of ``size`` neighbours; a segment is present (has memory) or absent.
    The first ``n_ready`` places are present at the start.

    Places of segments that are in use in part are handed out first, so that others can go.
    """

    __slots__ = ("_absent", "_n_taken", "_partial", "_whole", "n", "n_free", "n_present", "size")

    def __init__(self, n: int, n_ready: int, size: int = 1) -> None:
        self.n, self.size = n, size
        n_segments, n_here = -(-n // size), -(-min(n, n_ready) // size)
        self.n_present = min(n, n_here * size)  # places that have memory
        self.n_free = self.n_present  # of them those that nobody has
        self._absent = list(range(n_segments - 1, n_here - 1, -1))
        # Present, no place taken; the last is used first: the lowest, or what was used just now.
        self._whole: dict[int, None] = dict.fromkeys(range(n_here - 1, -1, -1))
        self._partial: dict[int, list[int]] = {}  # free places of segments with some taken
        self._n_taken = [0] * n_segments

    @property
    def n_absent(self) -> int:
        """Segments without memory."""
        return len(self._absent)

    @property
    def n_whole(self) -> int:
        """Present segments of which no place is taken."""
        return len(self._whole)

    def bring(self, *, is_ahead: bool = False) -> range:
        """A segment gets memory; its places are free, and with ``is_ahead`` the last to be taken.
        There must be an absent one."""
        segment = self._absent.pop()
        if is_ahead:
            self._whole = {segment: None, **self._whole}
        else:
            self._whole[segment] = None
        places = self._places(segment)
        self.n_free += len(places)
        self.n_present += len(places)
        return places

    def send_away(self) -> int:
        """A segment of which no place is taken loses its memory; returns its first place."""
        segment = next(iter(self._whole))
        del self._whole[segment]
        self._absent.append(segment)
        n_places = len(self._places(segment))
        self.n_free -= n_places
        self.n_present -= n_places
        return segment * self.size

    def take(self) -> int:
        """A free place. There must be one."""
        if not self._partial:
            segment, _ = self._whole.popitem()
            self._partial[segment] = list(reversed(self._places(segment)))
        segment = next(reversed(self._partial))
        free = self._partial[segment]
        place = free.pop()
        if not free:
            del self._partial[segment]
        self._n_taken[segment] += 1
        self.n_free -= 1
        return place

    def give_back(self, place: int) -> None:
        """A taken place is free again."""
        segment = place // self.size
        self.n_free += 1
        self._n_taken[segment] -= 1
        if self._n_taken[segment]:
            self._partial.setdefault(segment, []).append(place)
        else:
            self._partial.pop(segment, None)
            self._whole[segment] = None

    def check_integrity(self, taken: Iterable[int]) -> None:
        """Raise AssertionError unless free places are those of present segments not ``taken``."""
        free = [p for places in self._partial.values() for p in places]
        free += [p for segment in self._whole for p in self._places(segment)]
        absent = [p for segment in self._absent for p in self._places(segment)]
        assert len(free) == self.n_free, "free places are miscounted"
        assert sorted([*free, *absent, *taken]) == list(range(self.n)), "a place leaked or shared"
        assert self.n_present == self.n - len(absent)

    def _places(self, segment: int) -> range:
        begin = segment * self.size
        return range(begin, min(begin + self.size, self.n))

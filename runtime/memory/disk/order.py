"""Which file goes first when the disk's bytes are used up: the least recently used one, but no
owner is squeezed below the average by others who write more."""

from __future__ import annotations

from collections import OrderedDict

from slotmux.runtime.memory.disk.index import Stored

_MAX_PASSED = 64  # files of small owners that are passed over, at most: a choice stays cheap


class Order:
    """Files by last use. Whoever calls holds the store's lock."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, Stored] = OrderedDict()  # by name
        self._by_owner: dict[str, int] = {}
        self.n_bytes = 0

    def __len__(self) -> int:
        return len(self._files)

    def get(self, name: str) -> Stored | None:
        """The file of a name."""
        return self._files.get(name)

    def all(self) -> list[Stored]:
        """Every file, the least recently used first."""
        return list(self._files.values())

    def add(self, stored: Stored) -> None:
        """A file is there, as the most recently used one."""
        assert stored.name not in self._files
        self._files[stored.name] = stored
        self._count(stored, stored.n_bytes)

    def remove(self, stored: Stored) -> None:
        """A file is gone."""
        del self._files[stored.name]
        self._count(stored, -stored.n_bytes)

    def touch(self, stored: Stored) -> None:
        """A file was used."""
        self._files.move_to_end(stored.name)

    def demote(self, stored: Stored) -> None:
        """A file is hardly wanted any more."""
        self._files.move_to_end(stored.name, last=False)

    def first(self) -> Stored | None:
        """What goes next."""
        if not self._files:
            return None
        share = self.n_bytes / len(self._by_owner)
        oldest = None
        for n_passed, stored in enumerate(self._files.values()):
            oldest = oldest or stored
            if self._by_owner[stored.owner] >= share:
                return stored
            if n_passed == _MAX_PASSED:
                break
        return oldest

    def _count(self, stored: Stored, n_bytes: int) -> None:
        self.n_bytes += n_bytes
        n_owned = self._by_owner.get(stored.owner, 0) + n_bytes
        if n_owned > 0:
            self._by_owner[stored.owner] = n_owned
        else:
            self._by_owner.pop(stored.owner, None)

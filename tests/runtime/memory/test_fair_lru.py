"""Eviction by heaps chooses what looking at every owner would, and does not look at every owner."""

from __future__ import annotations

from random import Random

import pytest

from slotmux.runtime.memory.eviction import FairLru


def plain_choice(lru: FairLru, besides: int) -> int:
    """The rule itself: the oldest of all owners that hold at least the average."""
    if not len(lru):
        return -1
    share = len(lru) / len(lru._by_owner)
    firsts = [next(iter(k.items())) for k in lru._by_owner.values() if len(k) >= share]
    found = [(stamp, key) for key, stamp in firsts if key != besides]
    if found:
        return min(found)[1]
    return next((key for keys in lru._by_owner.values() for key in keys if key != besides), -1)


@pytest.mark.parametrize("n_owners", [1, 3, 40])
def test_the_choice_is_that_of_the_plain_rule(n_owners):
    rng, lru, held = Random(n_owners), FairLru(), {}
    for key in range(4000):
        what = rng.random()
        if what < 0.45 or not held:
            held[key] = str(int(n_owners * rng.random() ** 2))
            lru.add(held[key], key)
        else:
            old = rng.choice(list(held))
            if what < 0.65:
                lru.touch(held[old], old)
            else:
                old = lru.oldest() if what < 0.85 else old
                lru.remove(held.pop(old), old)
        besides = rng.choice([-1, lru.oldest(), rng.choice([*held, -1])])
        assert lru.oldest(besides) == plain_choice(lru, besides)
        assert lru._n_entries == sum(map(len, lru._by_size.values()))
        assert lru._n_entries <= 65 + 4 * (len(lru._by_owner) + 1) + 64


def test_many_owners_cost_a_choice_no_more_than_few(monkeypatch):
    """Counted in owners looked at: clients choose how many salts there are."""
    lru, looks = FairLru(), []
    for key in range(16_000):
        lru.add(f"salt {key}", key)
    entry = FairLru._entry
    monkeypatch.setattr(
        FairLru, "_entry", lambda self, owner: looks.append(1) or entry(self, owner)
    )
    for key in range(100):
        assert lru.oldest() == key
        lru.remove(f"salt {key}", key)
    assert len(looks) < 1000

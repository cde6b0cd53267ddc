"""Eviction by heaps chooses what looking at every owner would, and does not look at every owner."""

from __future__ import annotations

from random import Random

import pytest

from slotmux.runtime.memory.eviction import ByAge, ByWorth, FairLru, FairOrder


def plain_choice(held: dict[int, tuple[str, float]], besides: int) -> tuple[float, int] | None:
    """The rule itself: the least of all owners that hold at least the average, each answering with
    its least; where that is ``besides``, whatever there is."""
    by_owner: dict[str, list[tuple[float, int]]] = {}
    for key, (owner, value) in held.items():
        by_owner.setdefault(owner, []).append((value, key))
    firsts = [min(keys) for keys in by_owner.values() if len(keys) * len(by_owner) >= len(held)]
    return min((first for first in firsts if first[1] != besides), default=None)


@pytest.mark.parametrize("n_owners", [1, 3, 40])
@pytest.mark.parametrize("kind", [ByAge, ByWorth])
def test_the_choice_is_that_of_the_plain_rule(kind, n_owners):
    rng, order, held = Random(n_owners), FairOrder(kind), {}
    for clock in range(4000):
        value = float(clock if kind is ByAge else rng.randrange(50))
        what = rng.random()
        if what < 0.45 or not held:
            held[clock] = (str(int(n_owners * rng.random() ** 2)), value)
            order.add(held[clock][0], clock, value)
        else:
            key = rng.choice(list(held))
            if what < 0.65:
                held[key] = (held[key][0], value)
                order.change(*(held[key][0], key, value))
            else:
                key = order.first()[1] if what < 0.85 else key
                order.remove(held.pop(key)[0], key)
        first = order.first()
        assert (first is None) == (not held)
        besides = rng.choice([-1, first[1] if first else -1, rng.choice([*held, -1])])
        wanted, found = plain_choice(held, besides), order.first(besides)
        if wanted is not None:
            assert found is not None
            assert found[:2] == wanted
        else:
            assert (found is None) == (not held.keys() - {besides})
            assert found is None or found[1] != besides
        assert order._n_entries == sum(map(len, order._by_size.values()))
        assert order._n_entries <= 65 + 4 * (len(order._by_owner) + 1) + 64
        assert sorted(order.keys()) == sorted(held)


def test_many_owners_cost_a_choice_no_more_than_few(monkeypatch):
    """Counted in owners looked at: clients choose how many salts there are."""
    lru, looks = FairLru(), []
    for key in range(16_000):
        lru.add(f"salt {key}", key)
    entry = FairOrder._entry
    monkeypatch.setattr(
        FairOrder, "_entry", lambda self, owner: looks.append(1) or entry(self, owner)
    )
    for key in range(100):
        assert lru.oldest() == key
        lru.remove(f"salt {key}", key)
    assert len(looks) < 1000


def test_a_heap_does_not_grow_with_changes():
    order = ByWorth()
    for i in range(10_000):
        order.put(i % 3, float(i))
    assert len(order._heap) <= 16 + 4 * 3 + 1
    assert order.first() == (9997.0, 1)

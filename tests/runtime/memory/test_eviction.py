"""Eviction by heaps chooses what looking at every owner would, and does not look at every owner."""

from __future__ import annotations

from random import Random

import pytest

from slotmux.runtime.memory import eviction
from slotmux.runtime.memory.eviction import ByWorth, FairOrder, weight_class


def plain_choice(
    held: dict[int, tuple[str, float, int]], weights: dict[str, int]
) -> tuple[float, int, int] | None:
    """The rule itself: the least of all owners that hold at least the average, within an eighth."""
    total = sum(weights.values())
    share = weight_class(total // len(weights)) if weights else 0
    rich = [(v, t, k) for k, (o, v, t) in held.items() if weight_class(weights[o]) >= share]
    return min(rich or [(v, t, k) for k, (_, v, t) in held.items()], default=None)


@pytest.mark.parametrize("n_owners", [1, 3, 40])
@pytest.mark.parametrize("most_weight", [1, 1000])
def test_the_choice_is_that_of_the_plain_rule(most_weight, n_owners):
    rng, order, turn = Random(n_owners), FairOrder(), 0
    held: dict[int, tuple[str, float, int]] = {}
    weight_of: dict[int, int] = {}
    weights: dict[str, int] = {}

    def weigh(owner, weight):
        order.weigh(owner, weight)
        weights[owner] = weights.get(owner, 0) + weight
        if not weights[owner]:
            del weights[owner]

    for clock in range(4000):
        value = float(rng.randrange(50))
        what = rng.random()
        if what < 0.45 or not held:
            owner = str(int(n_owners * rng.random() ** 2))
            turn += 1
            held[clock] = owner, value, turn
            weight_of[clock] = rng.randint(1, most_weight)
            order.put(owner, clock, value)
            weigh(owner, weight_of[clock])
        elif what < 0.65:
            key = rng.choice(list(held))
            turn += 1
            held[key] = held[key][0], value, turn
            order.put(held[key][0], key, value)
        else:
            key = order.first()[2] if what < 0.85 else rng.choice(list(held))
            owner = held.pop(key)[0]
            order.remove(owner, key)
            weigh(owner, -weight_of.pop(key))
        found = order.first()
        assert (found[:3] if found else None) == plain_choice(held, weights)
        assert sorted(order.all()) == sorted(held)
        assert len(order) == len(held)
        assert order._n_entries == sum(map(len, order._by_class.values()))
        assert order._n_entries <= 65 + 4 * (len(order._owners) + 1) + 64
        assert {o: order.weight(o) for o in weights} == weights


def test_weights_of_a_class_differ_by_less_than_an_eighth():
    classes: dict[int, list[int]] = {}
    before = -1
    for weight in range(100_000):
        now = weight_class(weight)
        assert before <= now <= before + 1
        classes.setdefault(now, []).append(weight)
        before = now
    assert all(9 * members[0] >= 8 * members[-1] for members in classes.values())


@pytest.mark.parametrize("n_keys", [1_000, 100_000])
@pytest.mark.parametrize("n_owners", [1, 100, 10_000])
@pytest.mark.parametrize("spread", ["even", "steep"])
def test_a_choice_costs_the_logarithm_of_the_keys_whoever_owns_them(
    monkeypatch, n_keys, n_owners, spread
):
    """Counted in operations on heaps, each of which is a logarithm, and in heaps looked at."""
    rng, order, n_ops = Random(1), FairOrder(), 0

    def owner_of(key):
        if spread == "even":
            return str(key % n_owners)
        return str(int(n_owners * rng.random() ** 4))  # hundreds of different sizes

    owners = {}
    for key in range(n_keys):
        owners[key] = owner_of(key)
        order.put(owners[key], key, rng.random())
        order.weigh(owners[key], rng.randint(1, 20_000))

    def counted(function):
        def run(*args):
            nonlocal n_ops
            n_ops += 1
            return function(*args)

        return run

    monkeypatch.setattr(eviction, "heappop", counted(eviction.heappop))
    monkeypatch.setattr(eviction, "heappush", counted(eviction.heappush))
    monkeypatch.setattr(FairOrder, "_top", counted(FairOrder._top))

    def heapify(heap):  # now and then, of what has gathered meanwhile
        nonlocal n_ops
        n_ops += len(heap)
        heapify_(heap)

    heapify_ = eviction.heapify
    monkeypatch.setattr(eviction, "heapify", heapify)
    n_choices = 900
    for _ in range(n_choices):
        key = order.first()[2]
        order.remove(owners.pop(key), key)
    # Eight classes in an octave of sizes: of 10,000 owners at most 8 * log2(10,000) are above the
    # average.
    assert n_ops <= n_choices * (8 + 8 * min(n_owners, n_keys).bit_length())


def test_a_heap_does_not_grow_with_changes():
    order = ByWorth()
    for i in range(10_000):
        order.put(i % 3, float(i), i)
    assert len(order._heap) <= 16 + 4 * 3 + 1
    assert order.first() == (9997.0, 9997, 1)


def test_an_owner_who_floods_pays_for_it_alone():
    order = FairOrder()
    for key in range(64):
        order.put("quiet", key, 0.0)  # worth the least of all
        order.weigh("quiet", 1)
    for key in range(1000, 3000):
        order.put("flood", key, 100.0)
        order.weigh("flood", 1)
        if len(order) > 256:
            _, _, victim, owner = order.first()
            order.remove(owner, victim)
            order.weigh(owner, -1)
    assert order.weight("quiet") == 64
    assert order.weight("flood") == 192

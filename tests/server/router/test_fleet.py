"""Who is loaded, for whom, and who gives way: with processes that do what a test says."""

from __future__ import annotations

import asyncio
import math

import pytest

from slotmux.server.http.errors import ApiError
from tests.server.router.fakes import Yard, settle

MIB = 2**20


async def refused(awaitable) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await awaitable
    return caught.value


async def test_requests_that_come_together_start_a_model_once():
    yard = Yard({"a": 1}, room=10)
    yard.is_ready_at_once = False
    tasks = [asyncio.create_task(yard.fleet.acquire(yard.member("a"))) for _ in range(5)]
    await settle()
    assert yard.member("a").status == "loading"
    assert yard.member("a").n_waiting == 5
    yard.children["a"][0].become_ready()
    leases = await asyncio.gather(*tasks)
    assert len(yard.children["a"]) == 1
    assert yard.member("a").n_running == 5
    for lease in leases:
        lease.release()
        lease.release()  # once counts
    assert yard.member("a").n_running == 0


async def test_memory_is_asked_for_before_it_is_taken():
    yard = Yard({"a": 6, "b": 6}, room=10)
    yard.is_ready_at_once = False
    first = asyncio.create_task(yard.fleet.acquire(yard.member("a")))
    second = asyncio.create_task(yard.fleet.acquire(yard.member("b")))
    await settle()
    assert yard.children["a"][0].is_permitted
    assert not yard.children["b"][0].is_permitted  # a is being loaded, and may not be interrupted
    yard.children["a"][0].become_ready()
    (await first).release()
    await settle()
    assert yard.children["a"][0].is_stopped
    assert yard.children["b"][0].is_permitted
    yard.children["b"][0].become_ready()
    await second
    assert yard.loaded == {"b"}


async def test_the_least_recently_used_gives_way():
    yard = Yard({"a": 3, "b": 3, "c": 3, "d": 5}, room=10)
    for name in ("a", "b", "c", "a"):
        await yard.used(name)
    await yard.used("d")
    assert yard.loaded == {"a", "d"}
    assert yard.member("b").unloads == {"room": 1}


async def test_no_more_than_needed_give_way():
    yard = Yard({"a": 3, "b": 3, "c": 4, "d": 3}, room=10)
    for name in ("a", "b", "c", "d"):
        await yard.used(name)
    assert yard.loaded == {"b", "c", "d"}


async def test_memory_is_free_when_the_process_has_ended():
    yard = Yard({"a": 6, "b": 6}, room=10)
    await yard.used("a")
    child = yard.children["a"][0]
    child.holds_on = True
    wait = asyncio.create_task(yard.fleet.acquire(yard.member("b")))
    await settle()
    assert child.is_stopped
    assert yard.member("a").status == "unloading"
    assert not yard.children["b"][0].is_permitted
    child.end(0)
    await wait
    assert yard.loaded == {"b"}


async def test_models_in_use_finish_first_and_take_nothing_new_meanwhile():
    yard = Yard({"a": 6, "b": 6}, room=10)
    running = await yard.fleet.acquire(yard.member("a"))
    wants_b = asyncio.create_task(yard.fleet.acquire(yard.member("b")))
    await settle()
    assert yard.member("a").is_leaving
    wants_a = asyncio.create_task(yard.fleet.acquire(yard.member("a")))
    await settle()
    assert not wants_a.done()
    assert not wants_b.done()
    running.release()
    b = await wants_b
    await settle()
    assert not wants_a.done()  # behind b, which is in use now
    b.release()
    await wants_a
    assert yard.loaded == {"a"}
    assert len(yard.children["a"]) == 2


async def test_who_waits_too_long_for_memory_is_told_and_the_others_go_on():
    yard = Yard({"a": 6 * MIB, "b": 7 * MIB}, room=10 * MIB, queue_timeout=0.05)
    running = await yard.fleet.acquire(yard.member("a"))
    error = await refused(yard.fleet.acquire(yard.member("b")))
    assert (error.status, error.code) == (503, "no_memory_for_model")
    assert "7 MiB" in error.message
    assert "--queue-timeout" in error.message
    assert error.headers["Retry-After"]
    assert yard.member("a").is_serving
    assert yard.member("b").status == "unloaded"
    running.release()
    yard.clock.now += 0.01
    await yard.used("b")  # it was no failure of its own
    assert yard.loaded == {"b"}


async def test_nobody_is_unloaded_for_a_request_that_has_gone():
    yard = Yard({"a": 6, "b": 6}, room=10)
    running = await yard.fleet.acquire(yard.member("a"))
    waits = asyncio.create_task(yard.fleet.acquire(yard.member("b")))
    await settle()
    assert yard.member("a").is_leaving
    waits.cancel()
    await settle()
    assert yard.member("a").is_serving
    assert yard.member("b").status == "unloaded"
    running.release()


async def test_what_can_never_fit_is_refused_with_sizes_and_flag():
    yard = Yard({"a": 4 * MIB, "b": 8 * MIB, "c": 12 * MIB}, room=10 * MIB, pinned=("a",))
    yard.fleet.keep_pinned()
    await settle()
    error = await refused(yard.fleet.acquire(yard.member("c")))
    assert (error.status, error.code, error.param) == (400, "model_too_large", "model")
    assert "12582912 bytes in all" in error.message
    assert "10 MiB for all models (--mem-limit)" in error.message
    error = await refused(yard.fleet.acquire(yard.member("b")))
    assert "4 MiB of them for pinned models" in error.message
    assert yard.loaded == {"a"}


async def test_only_so_many_at_a_time():
    yard = Yard({"a": 1, "b": 1, "c": 1}, room=10, n_models=2)
    for name in ("a", "b", "c"):
        await yard.used(name)
    assert yard.loaded == {"b", "c"}


async def test_pinned_models_have_their_places():
    yard = Yard({"a": 1, "b": 1}, room=10, n_models=1, pinned=("a",))
    yard.fleet.keep_pinned()
    await settle()
    error = await refused(yard.fleet.acquire(yard.member("b")))
    assert error.code == "model_too_large"
    assert "--models-max" in error.message


async def test_idle_models_are_unloaded_in_time():
    yard = Yard({"a": 1, "b": 1, "c": 1, "d": 1}, room=10, keep_alive="5m", pinned=("d",))
    yard.fleet.keep_pinned()
    await yard.used("a")
    await yard.used("b", keep_alive_s=10.0)
    await yard.used("c", keep_alive_s=math.inf)
    running = await yard.fleet.acquire(yard.member("a"))
    yard.clock.now += 11
    yard.fleet.expire()
    await settle()
    assert yard.loaded == {"a", "c", "d"}
    yard.clock.now += 1000
    yard.fleet.expire()
    assert yard.member("a").is_serving  # it is in use
    running.release()
    yard.clock.now += 299
    yard.fleet.expire()
    assert yard.member("a").is_serving
    yard.clock.now += 1
    yard.fleet.expire()
    await settle()
    assert yard.loaded == {"c", "d"}


async def test_what_a_request_wants_kept_counts_until_the_next_load():
    yard = Yard({"a": 1}, room=10, keep_alive="5m")
    await yard.used("a", keep_alive_s=1000.0)
    await yard.used("a")
    yard.clock.now += 900
    yard.fleet.expire()
    assert yard.loaded == {"a"}
    await yard.used("a", keep_alive_s=0.0)
    assert yard.loaded == set()
    await yard.used("a")
    assert yard.member("a").keep_alive_s == 300


async def test_keep_alive_0_waits_for_the_others_that_run():
    yard = Yard({"a": 1}, room=10)
    other = await yard.fleet.acquire(yard.member("a"))
    await yard.used("a", keep_alive_s=0.0)
    assert yard.loaded == {"a"}
    other.release()
    await settle()
    assert yard.loaded == set()


async def test_a_crash_costs_one_model_and_the_next_request_starts_it():
    yard = Yard({"a": 1, "b": 1}, room=10)
    await yard.used("b")
    lease = await yard.fleet.acquire(yard.member("a"))
    yard.children["a"][0].end(-11)
    await settle()
    assert yard.member("a").failure.message == "its process ended with signal SIGSEGV"
    lease.release()  # of a process that is gone
    assert yard.loaded == {"b"}
    await yard.used("a")
    assert len(yard.children["a"]) == 2
    assert yard.member("a").n_running == 0
    assert yard.member("a").n_crashes == 1


async def test_a_model_that_keeps_crashing_is_left_alone_for_longer_and_longer():
    yard = Yard({"a": 1}, room=10)
    pauses = []
    for _ in range(8):
        (await yard.fleet.acquire(yard.member("a"))).release()
        yard.children["a"][-1].end(1)
        await settle()
        pause = yard.member("a").failure.until - yard.clock.now
        pauses.append(pause)
        if pause:
            error = await refused(yard.fleet.acquire(yard.member("a")))
            assert (error.status, error.code) == (503, "model_crashed")
            assert error.headers["Retry-After"] == str(math.ceil(pause))
        yard.clock.now += pause
    assert pauses == [0, 2, 4, 8, 16, 32, 60, 60]
    (await yard.fleet.acquire(yard.member("a"))).release()
    yard.clock.now += 100  # it served well
    yard.children["a"][-1].end(1)
    await settle()
    assert yard.member("a").failure.n == 1


async def test_what_cannot_be_loaded_is_told_and_not_tried_by_every_request():
    yard = Yard({"a": 1}, room=10)
    yard.is_ready_at_once = False
    task = asyncio.create_task(yard.fleet.acquire(yard.member("a")))
    await settle()
    yard.children["a"][0].fail("it is no GGUF file")
    error = await refused(task)
    assert (error.status, error.code) == (500, "model_load_failed")
    assert "it is no GGUF file" in error.message
    error = await refused(yard.fleet.acquire(yard.member("a")))
    assert "it is no GGUF file" in error.message
    assert len(yard.children["a"]) == 1
    yard.is_ready_at_once = True
    yard.fleet.load(yard.member("a"))  # by order it is
    await settle()
    assert yard.loaded == {"a"}


async def test_a_model_that_takes_too_long_is_ended():
    yard = Yard({"a": 1}, room=10, load_timeout=0.02)
    yard.is_ready_at_once = False
    error = await refused(yard.fleet.acquire(yard.member("a")))
    assert "--load-timeout" in error.message
    assert await yard.children["a"][0].exited() == -9
    assert yard.member("a").n_bytes == 0


async def test_pinned_models_come_back():
    yard = Yard({"a": 1}, room=10, pinned=("a",))
    yard.fleet.keep_pinned()
    await settle()
    yard.children["a"][0].end(-9)
    await settle()
    assert yard.loaded == {"a"}
    assert len(yard.children["a"]) == 2


async def test_unloading_what_is_being_loaded_ends_it_at_once():
    yard = Yard({"a": 1}, room=10)
    yard.is_ready_at_once = False
    task = asyncio.create_task(yard.fleet.acquire(yard.member("a")))
    await settle()
    yard.fleet.unload(yard.member("a"), "request")
    error = await refused(task)
    assert (error.status, error.code) == (503, "model_unloaded")
    assert await yard.children["a"][0].exited() == -9
    assert yard.member("a").status == "unloaded"
    assert yard.member("a").failure is None


async def test_unloading_what_is_in_use_lets_it_finish_and_new_requests_load_it_again():
    yard = Yard({"a": 1}, room=10)
    lease = await yard.fleet.acquire(yard.member("a"))
    first = yard.children["a"][0]
    first.holds_on = True
    yard.fleet.unload(yard.member("a"), "request")
    task = asyncio.create_task(yard.fleet.acquire(yard.member("a")))
    await settle()
    assert first.is_stopped
    assert not task.done()
    lease.release()
    first.end(0)
    await task
    assert len(yard.children["a"]) == 2
    assert yard.member("a").n_crashes == 0


async def test_without_autoload_only_orders_load():
    yard = Yard({"a": 1}, room=10)
    error = await refused(yard.fleet.acquire(yard.member("a"), may_load=False))
    assert (error.status, error.code) == (400, "model_not_loaded")
    yard.fleet.load(yard.member("a"))
    (await yard.fleet.acquire(yard.member("a"), may_load=False)).release()


async def test_no_more_wait_than_may_wait_for_a_slot():
    yard = Yard({"a": 1}, room=10, parallel=2, max_queue=3)
    yard.is_ready_at_once = False
    tasks = [asyncio.create_task(yard.fleet.acquire(yard.member("a"))) for _ in range(5)]
    await settle()
    error = await refused(yard.fleet.acquire(yard.member("a")))
    assert (error.status, error.code) == (429, "queue_full")
    assert error.headers["Retry-After"]
    tasks[0].cancel()
    await settle()
    again = asyncio.create_task(yard.fleet.acquire(yard.member("a")))
    yard.children["a"][0].become_ready()
    await asyncio.gather(again, *tasks[1:])
    assert yard.member("a").n_queued == 0


async def test_the_end_ends_all():
    yard = Yard({"a": 1, "b": 1, "c": 1}, room=10, pinned=("c",))
    yard.fleet.keep_pinned()
    await yard.used("a")
    yard.is_ready_at_once = False
    loading = asyncio.create_task(yard.fleet.acquire(yard.member("b")))
    await settle()
    await yard.fleet.drain(1.0)
    assert (await refused(loading)).code == "server_shutdown"
    assert all(not m.is_active for m in yard.fleet.members.values())
    assert [len(children) for children in yard.children.values()] == [1, 1, 1]
    assert (await refused(yard.fleet.acquire(yard.member("a")))).code == "server_shutdown"


async def test_models_come_and_go_with_the_catalog():
    yard = Yard({"a": 1, "b": 1}, room=10)
    await yard.used("a")
    await yard.used("b")
    yard._sizes["c"] = 1
    yard.fleet.update(yard.catalog(["b", "c"]))
    await settle()
    assert set(yard.fleet.members) == {"b", "c"}
    await yard.used("c")
    assert yard.loaded == {"b", "c"}

"""Prompts of one body that wait outside the engine: submitted as places become free, never lost."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from slotmux.runtime.engine.request import (
    EngineStoppedError,
    FinishReason,
    Output,
    QueueFullError,
    Request,
    SamplingParams,
    Usage,
)
from slotmux.server.answers.generation import Generation
from slotmux.server.answers.intake import Intake
from slotmux.server.http.errors import ApiError


class Door:
    """An engine that has ``n_places`` for requests, and says so."""

    is_alive = True
    failure = None

    def __init__(self, n_places: int) -> None:
        self.n_places = n_places
        self.submitted: list[Request] = []
        self.aborted: list[int] = []
        self.n_refused = 0
        self._ids = itertools.count(1)

    def submit(self, request: Request) -> int:
        if self.n_places < 0:
            raise EngineStoppedError
        if not self.n_places:
            self.n_refused += 1
            raise QueueFullError(1)
        self.n_places -= 1
        self.submitted.append(request)
        request.id = next(self._ids)
        return request.id

    def abort(self, request_id: int) -> None:
        self.aborted.append(request_id)

    def cut(self, request_id: int) -> None:
        self.aborted.append(request_id)


def requests(n: int) -> list[Request]:
    return [Request([i], SamplingParams(), lambda *_: None, is_first=i == 0) for i in range(n)]


def end(generation: Generation, index: int) -> None:
    usage = Usage(1, 0, 1, 0.0, 0.0, 0.0)
    output = Output(0, "x", finish_reason=FinishReason.STOP, usage=usage)
    generation.sinks[index].receive([output], 1.0)


def prompts(door: Door) -> list[int]:
    return [request.prompt[0] for request in door.submitted]


async def test_each_end_lets_the_next_one_in():
    door = Door(100)
    generation = Intake(door, asyncio.get_running_loop()).start(requests(5), n_at_once=2)
    assert prompts(door) == [0, 1]
    assert [request.n_together for request in door.submitted] == [2, 2]
    end(generation, 1)
    assert prompts(door) == [0, 1, 2]
    end(generation, 0)
    end(generation, 2)
    assert prompts(door) == [0, 1, 2, 3, 4]
    for index in (3, 4):
        end(generation, index)
    assert sorted(index for index, _ in await generation.next()) == [0, 1, 2, 3, 4]


async def test_the_first_needs_a_place_and_others_do_not():
    loop = asyncio.get_running_loop()
    with pytest.raises(ApiError) as refused:
        Intake(Door(0), loop).start(requests(3))
    assert refused.value.status == 429
    door = Door(1)
    generation = Intake(door, loop).start(requests(3), n_at_once=2)
    assert prompts(door) == [0]
    end(generation, 0)  # strangers have taken the place
    assert prompts(door) == [0]
    door.n_places = 1
    for _ in range(50):  # nothing of its own will end: it asks again by itself
        await asyncio.sleep(0.02)
        if len(door.submitted) == 2:
            break
    assert prompts(door) == [0, 1]
    generation.close()
    assert door.aborted == [2]
    n_refused = door.n_refused
    await asyncio.sleep(0.25)
    assert door.n_refused == n_refused, "a closed one asks no more"


async def test_what_ends_the_generation_ends_what_waits():
    loop = asyncio.get_running_loop()
    door = Door(2)
    generation = Intake(door, loop).start(requests(9), n_at_once=2)
    door.n_places = -1  # the engine stops
    end(generation, 0)
    assert generation.failure is not None
    assert generation.failure.status == 503
    assert door.aborted == [2]
    assert not generation.waiting


async def test_a_limit_on_time_is_an_error_while_prompts_wait():
    door = Door(2)
    generation = Intake(door, asyncio.get_running_loop()).start(requests(3), n_at_once=2)
    generation.cut()
    assert generation.failure is not None
    assert generation.failure.status == 504

"""Errands: what others have the engine thread do between two steps."""

from __future__ import annotations

import threading

import pytest

from slotmux.runtime.engine.request import EngineStoppedError
from slotmux.runtime.engine.thread import Engine, EngineConfig
from tests.runtime.engine.fake_model import FakeDetokenizer, FakeModel, FakeTokenizer


@pytest.fixture
def engine():
    model = FakeModel(2, 64, n_blocks=8, n_ubatch=16)
    config = EngineConfig(2, 64, poison_freed=True)
    running = Engine(model, FakeTokenizer(), config, new_detokenizer=FakeDetokenizer)
    running.start()
    yield running
    running.stop(0)


def test_an_errand_runs_on_the_engine_thread(engine):
    def look(core):
        return threading.current_thread().name, len(core.slots)

    assert engine.errand(look).result(10) == ("slotmux-engine", 2)


def test_what_an_errand_raises_is_its_callers(engine):
    def fail(core):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        engine.errand(fail).result(10)
    assert engine.errand(lambda core: 5).result(10) == 5, "the engine lives on"


def test_a_cancelled_errand_is_not_run(engine):
    entered, release, ran = threading.Event(), threading.Event(), []

    def hold(core):
        entered.set()
        release.wait(10)

    first = engine.errand(hold)
    assert entered.wait(10)
    second = engine.errand(lambda core: ran.append(1))
    assert second.cancel()
    release.set()
    first.result(10)
    engine.errand(lambda core: None).result(10)
    assert not ran


def test_a_stopped_engine_takes_none(engine):
    engine.stop(5)
    with pytest.raises(EngineStoppedError):
        engine.errand(lambda core: None)

"""The engine thread: submit, abort, stop and die from any thread; alone or in a crowd the same."""

import contextlib
import random
import threading
import time

import pytest

from slotmux.runtime.engine.request import (
    EngineStoppedError,
    FinishReason,
    InvalidRequestError,
    QueueFullError,
    Request,
    SamplingParams,
)
from slotmux.runtime.engine.thread import Engine, EngineConfig
from tests.runtime.engine.fake_model import (
    GREEDY,
    FakeDetokenizer,
    FakeModel,
    FakeTokenizer,
    Receiver,
    oracle,
    text_of,
)

KINDS = {"attention": (40, 0), "hybrid": (40, 7), "recurrent": (0, 7)}


class Waiter(Receiver):
    """A receiver that other threads can wait on."""

    def __init__(self, n=1):
        super().__init__()
        self.n = n
        self.done = threading.Event()
        self.started = threading.Event()

    def __call__(self, request, outputs):
        super().__call__(request, outputs)
        self.started.set()
        if len(self.last) == self.n:
            self.done.set()


def request_of(prompt, **options):
    waiter = Waiter(options.get("n", 1))
    options.setdefault("sampling", GREEDY)
    return Request(prompt=list(prompt), on_output=waiter, **options), waiter


@pytest.fixture
def make_engine():
    engines = []

    def make(kind="attention", n_slots=4, n_ctx=128, **options):
        n_blocks, n_rows = KINDS[kind]
        model = FakeModel(n_slots, n_ctx, n_blocks, n_rows, n_ubatch=16)
        config = EngineConfig(n_slots, n_ctx, poison_freed=True, **options)
        engine = Engine(model, FakeTokenizer(), config, new_detokenizer=FakeDetokenizer)
        engine.model = model
        engines.append(engine)
        engine.start()
        return engine

    yield make
    for engine in engines:
        engine.stop()
        if engine.failure is None:
            engine._core.memory.check_integrity()


def slow(model, seconds=0.002):
    model.before_forward = lambda: time.sleep(seconds)


def wait_idle(engine, seconds=5.0):
    end = time.monotonic() + seconds
    while engine._core.has_work or engine._inbox:
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("kind", KINDS)
def test_alone_equals_in_a_crowd(make_engine, kind):
    engine = make_engine(kind)
    rng = random.Random(4)
    jobs = []
    for i in range(24):
        prompt = [rng.randrange(60) for _ in range(rng.randrange(1, 70))]
        sampling = SamplingParams(temperature=float(i % 2), seed=i)
        jobs.append(request_of(prompt, sampling=sampling, max_tokens=rng.randrange(1, 40)))
        engine.submit(jobs[-1][0])
    for request, waiter in jobs:
        assert waiter.done.wait(10)
        assert waiter.tokens[0] == oracle(request, 128, engine.model)
        assert waiter.text[0] == text_of(waiter.tokens[0])
    wait_idle(engine)
    stats = engine.stats()
    assert stats.n_slots_busy == stats.n_queued == 0
    assert stats.n_blocks_free + stats.n_blocks_cached == stats.n_blocks
    assert stats.n_rows_free + stats.n_checkpoints == stats.n_rows
    assert sum(stats.ttft.counts) == 24
    assert stats.counters.n_generated_tokens == sum(len(w.tokens[0]) for _, w in jobs)


@pytest.mark.parametrize("kind", KINDS)
def test_aborts_at_random_times_disturb_nobody(make_engine, kind):
    engine = make_engine(kind)
    slow(engine.model, 0.0003)
    canaries = [request_of([c] * 20, max_tokens=100, ignore_eos=True) for c in range(3)]
    for canary, _ in canaries:
        engine.submit(canary)
    rng = random.Random(1)
    victims = []
    for _ in range(60):
        request, waiter = request_of(
            [rng.randrange(60)] * rng.randrange(1, 100), n=rng.choice([1, 2])
        )
        try:
            request_id = engine.submit(request)
        except QueueFullError:
            continue
        victims.append((request, waiter))
        threading.Timer(rng.random() * 0.05, engine.abort, [request_id]).start()
        time.sleep(rng.random() * 0.002)
    for request, waiter in [*canaries, *victims]:
        assert waiter.done.wait(10)
        for index, tokens in waiter.tokens.items():
            expected = oracle(request, 128, engine.model, index)
            reason = waiter.last[index].finish_reason
            is_cut = reason == FinishReason.ABORT
            assert tokens == (expected[: len(tokens)] if is_cut else expected)
    assert all(w.last[0].finish_reason == FinishReason.LENGTH for _, w in canaries)
    wait_idle(engine)
    assert engine.stats().n_slots_busy == 0


def test_an_abort_is_answered_within_one_step(make_engine):
    engine = make_engine()
    slow(engine.model, 0.01)
    request, waiter = request_of([1, 2], ignore_eos=True)
    engine.submit(request)
    assert waiter.started.wait(5)
    before = engine.model.n_forwards
    engine.abort(request.id)
    assert waiter.done.wait(5)
    assert engine.model.n_forwards - before <= 1
    engine.abort(request.id)
    engine.abort(12345)


def test_the_queue_is_bounded_and_says_when_to_come_back(make_engine):
    engine = make_engine(n_slots=1, max_queue=2)
    gate = threading.Event()
    engine.model.before_forward = lambda: gate.wait(10)
    jobs = [request_of([1, 2, 3], max_tokens=3) for _ in range(5)]
    accepted = []

    def submit_all():
        for request, waiter in jobs:
            engine.submit(request)
            accepted.append(waiter)

    with pytest.raises(QueueFullError) as info:
        submit_all()
    assert 1 <= info.value.retry_after <= 60
    assert 3 <= len(accepted) <= 4
    gate.set()
    assert all(waiter.done.wait(5) for waiter in accepted)
    assert engine.stats().counters.rejected["queue_full"] == 1


def test_requests_are_served_first_come_first_served(make_engine):
    engine = make_engine(n_slots=1)
    slow(engine.model, 0.0005)
    order = []
    jobs = [request_of([i + 1, 2], max_tokens=2) for i in range(10)]
    for request, waiter in jobs:
        request.on_output = lambda r, o, w=waiter: (order.append(r.id), w(r, o))
        engine.submit(request)
    assert all(waiter.done.wait(5) for _, waiter in jobs)
    assert order == sorted(order)


def test_stop_drains_what_was_taken(make_engine):
    engine = make_engine(n_slots=2)
    slow(engine.model, 0.001)
    jobs = [request_of([i, 2], max_tokens=20, ignore_eos=True) for i in range(5)]
    for request, _ in jobs:
        engine.submit(request)
    assert engine.stop(10)
    assert all(w.last[0].finish_reason == FinishReason.LENGTH for _, w in jobs)
    assert not engine.is_alive
    with pytest.raises(EngineStoppedError):
        engine.submit(request_of([1])[0])


def test_stop_ends_what_does_not_finish_in_time(make_engine):
    engine = make_engine(n_slots=1, n_ctx=4096)
    slow(engine.model, 0.005)
    jobs = [request_of([1, 2], ignore_eos=True), request_of([3], n=1)]
    for request, _ in jobs:
        engine.submit(request)
    assert jobs[0][1].started.wait(5)
    assert not engine.stop(0.05)
    for _, waiter in jobs:
        assert waiter.last[0].finish_reason == FinishReason.ABORT
        assert waiter.last[0].error_code == "server_shutdown"


def test_a_failing_forward_fails_everyone_and_ends_the_thread(make_engine, caplog):
    engine = make_engine(n_slots=2)
    jobs = [request_of([i + 1] * 9, ignore_eos=True, n=1 + i % 2) for i in range(4)]
    countdown = iter(range(6))
    engine.model.before_forward = lambda: next(countdown)
    for request, _ in jobs:
        engine.submit(request)
    for request, waiter in jobs:
        assert waiter.done.wait(5)
        assert len(waiter.last) == request.n
        assert all(o.finish_reason == FinishReason.ERROR for o in waiter.last.values())
        assert all(o.error == "internal error" for o in waiter.last.values())
    engine._thread.join(5)
    assert isinstance(engine.failure, StopIteration)
    assert not engine.is_alive
    with pytest.raises(EngineStoppedError):
        engine.submit(request_of([1])[0])
    assert not engine.stop(1)


def test_a_request_that_slips_in_while_failing_is_answered(make_engine, caplog):
    engine = make_engine(n_slots=1)
    late = request_of([5, 6])

    def die():
        engine.submit(late[0])
        raise MemoryError

    engine.model.before_forward = die
    first = request_of([1, 2])
    engine.submit(first[0])
    assert first[1].done.wait(5)
    assert late[1].done.wait(5)
    assert late[1].last[0].finish_reason == FinishReason.ERROR


def test_an_emitter_that_fails_ends_one_choice(make_engine, caplog):
    engine = make_engine()
    good = request_of([1] * 9, max_tokens=30, ignore_eos=True)
    bad = request_of([2] * 9, max_tokens=30, ignore_eos=True)

    class Fragile(FakeDetokenizer):
        n_left = 3

        def push(self, token_id):
            self.n_left -= 1
            if self.n_left < 0:
                raise UnicodeError
            return super().push(token_id)

    detokenizers = iter([FakeDetokenizer(), Fragile()])
    engine._core._new_detokenizer = lambda: next(detokenizers)
    for request, _ in (good, bad):
        engine.submit(request)
    assert bad[1].done.wait(5)
    assert good[1].done.wait(5)
    assert bad[1].last[0].finish_reason == FinishReason.ERROR
    assert bad[1].tokens[0] == oracle(bad[0], 128, engine.model)[:3]
    assert good[1].tokens[0] == oracle(good[0], 128, engine.model)
    assert engine.is_alive


def test_stop_strings_end_a_choice_across_tokens(make_engine):
    engine = make_engine()
    plain = request_of([7] * 9, max_tokens=100, ignore_eos=True)
    engine.submit(plain[0])
    assert plain[1].done.wait(5)
    text = plain[1].text[0]
    for begin in (3, 10, 31):
        stop = text[begin : begin + 6]
        for include in (False, True):
            request, waiter = request_of(
                [7] * 9, max_tokens=100, ignore_eos=True, stop=(stop, "~"), include_stop=include
            )
            engine.submit(request)
            assert waiter.done.wait(5)
            at = text.find(stop)
            assert waiter.text[0] == text[: at + len(stop) * include]
            assert waiter.last[0].stop_string == stop
            assert waiter.last[0].finish_reason == FinishReason.STOP


@pytest.mark.timing
def test_it_sleeps_when_idle(make_engine):
    engine = make_engine()
    request, waiter = request_of([1, 2], max_tokens=2)
    engine.submit(request)
    assert waiter.done.wait(5)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.05
    assert engine.stats().heartbeat_age_s < 2


def test_stats_and_submits_from_many_threads(make_engine):
    engine = make_engine(max_queue=1000)
    waiters = []

    def client(seed):
        for i in range(8):
            request, waiter = request_of([seed, i, 3] * 5, max_tokens=6)
            engine.submit(request)
            waiters.append((request, waiter))
            assert engine.stats().n_ctx == 128

    threads = [threading.Thread(target=client, args=(s,)) for s in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({request.id for request, _ in waiters}) == 48
    for request, waiter in waiters:
        assert waiter.done.wait(10)
        assert waiter.tokens[0] == oracle(request, 128, engine.model)


def test_refused_requests_are_not_taken(make_engine):
    engine = make_engine()
    with pytest.raises(InvalidRequestError):
        engine.submit(request_of([])[0])
    with pytest.raises(InvalidRequestError) as info:
        engine.submit(request_of([1] * 128)[0])
    assert info.value.code == "context_length_exceeded"
    with pytest.raises(InvalidRequestError) as info:
        engine.submit(request_of([1], sampling=SamplingParams(top_k=665))[0])
    assert info.value.field == "top_k"
    assert engine.stats().counters.rejected == {"invalid": 3}


def test_a_forward_under_way_is_waited_for(make_engine):
    """The thread ends when the step does, and whoever stops it sees that."""
    engine = make_engine()
    slow(engine.model, 0.5)
    request, _ = request_of([1, 2, 3], max_tokens=50)
    engine.submit(request)
    time.sleep(0.1)
    assert not engine.stop(0.05)
    assert not engine.is_alive


# -- the queue of several clients


def taken(engine, client, n_together=1, n=None):
    """Requests of a client that the queue takes, of ``n`` that come together or one by one."""
    n_taken = 0
    with contextlib.suppress(QueueFullError):
        for index in range(n or n_together):
            is_first = index == 0 or n is not None
            request, _ = request_of([1, 2], client=client, n_together=n_together, is_first=is_first)
            engine.submit(request)
            n_taken += 1
    return n_taken


@pytest.fixture
def busy_engine(make_engine):
    """Four slots busy, nobody waiting, and steps that never end."""
    engine = make_engine(max_queue=40)
    gate = threading.Event()
    engine.model.before_forward = gate.wait
    for _ in range(4):
        engine.submit(request_of([1], max_tokens=100, ignore_eos=True)[0])
    end = time.monotonic() + 5
    while any(slot.choice is None for slot in engine._core.slots):
        assert time.monotonic() < end
        time.sleep(0.001)
    yield engine
    gate.set()


def test_a_client_alone_leaves_a_quarter_of_the_queue(busy_engine):
    assert taken(busy_engine, "a", n=50) == 30
    assert taken(busy_engine, "b", n=50) == 10


def test_prompts_that_come_together_are_taken_together(busy_engine):
    assert taken(busy_engine, "a", n_together=40) == 40
    assert taken(busy_engine, "b") == 0


def test_more_prompts_together_wait_for_what_their_client_has_waiting(busy_engine):
    assert taken(busy_engine, "a") == 1
    assert taken(busy_engine, "a", n_together=30) == 0
    assert taken(busy_engine, "a", n_together=29) == 29


def test_those_without_a_name_have_a_share_beside_others(busy_engine):
    assert taken(busy_engine, "a") == 1
    assert taken(busy_engine, "", n=50) == 15
    assert busy_engine.stats().counters.n_generated_tokens == 0

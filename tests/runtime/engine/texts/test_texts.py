"""The engine of texts: whose turn it is, what a step takes, and how a request ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from slotmux.runtime.encoder import Text
from slotmux.runtime.engine.request import (
    EngineStoppedError,
    FinishReason,
    InvalidRequestError,
    Output,
    QueueFullError,
    Request,
    SamplingParams,
)
from slotmux.runtime.engine.texts.engine import MAX_WAITING, STEP_TOKENS, TextEngine
from slotmux.runtime.engine.texts.line import TextLine, Waiting


class FakeEncoder:
    """A text's vector is its length and its first token. Steps are kept."""

    n_ctx, n_vocab, n_texts, n_ubatch = 1000, 500, 64, 1000

    def __init__(self) -> None:
        self.steps: list[list[int]] = []
        self.progress = 0
        self.hold: threading.Event | None = None
        self.fault: Exception | None = None
        self.nan = False

    def encode(
        self, texts: Sequence[Text], meanwhile: Callable[[], None] = lambda: None
    ) -> list[np.ndarray]:
        meanwhile()
        if self.hold is not None:
            self.hold.wait(10)
        if self.fault is not None:
            raise self.fault
        assert sum(len(t.tokens) for t in texts) <= self.n_ubatch
        self.progress += 1
        self.steps.append([len(t.tokens) for t in texts])
        found = [np.array([len(t.tokens), t.tokens[0]], np.float32) for t in texts]
        return [np.full(2, np.nan, np.float32) if self.nan else v for v in found]


def request(n: int, first: int = 1, **fields: object) -> Request:
    outputs: list[Output] = []
    made = Request(
        [first, *[2] * (n - 1)],
        SamplingParams(),
        lambda _, out: outputs.extend(out),
        max_tokens=0,
        wants_vector=True,
        **fields,  # type: ignore[arg-type]
    )
    made.context = outputs
    return made


def wait_for(*requests: Request) -> list[Output]:
    end = time.monotonic() + 10
    while not all(r.context for r in requests):
        assert time.monotonic() < end
        time.sleep(0.005)
    return [r.context[0] for r in requests]


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def engine(encoder: FakeEncoder):
    made = TextEngine(encoder, max_queue=4, queue_timeout_s=30.0)
    made.start()
    yield made
    if encoder.hold is not None:
        encoder.hold.set()
    made.stop(5.0)


def test_texts_get_their_own_vectors(engine: TextEngine) -> None:
    requests = [request(n, n // 3) for n in (1, 5, 1000, 300)]
    for each in requests:
        each.is_first = False  # of one HTTP request
        engine.submit(each)
    for output, n in zip(wait_for(*requests), (1, 5, 1000, 300), strict=True):
        assert output.finish_reason is FinishReason.STOP
        assert output.vector is not None
        assert output.vector.tolist() == [n, n // 3]
        assert output.usage is not None
        assert output.usage.n_prompt == n
    stats = engine.stats()
    assert stats.counters.n_prompt_tokens == 1306
    assert stats.counters.finished["stop"] == 4
    assert stats.slots == ()


@pytest.mark.parametrize(
    ("fields", "prompt", "field"),
    [
        ({"wants_vector": False}, [1], "model"),
        ({}, [], "input"),
        ({}, [1] * 1001, "input"),
        ({}, [500], "input"),
        ({}, [-1], "input"),
    ],
)
def test_what_cannot_be_encoded_is_refused(engine, fields, prompt, field) -> None:
    bad = request(1)
    bad.prompt = prompt
    for name, value in fields.items():
        setattr(bad, name, value)
    with pytest.raises(InvalidRequestError) as caught:
        engine.submit(bad)
    assert caught.value.field == field


def test_a_full_queue_and_who_leaves_it(engine: TextEngine, encoder: FakeEncoder) -> None:
    encoder.hold = threading.Event()
    running = request(600)
    engine.submit(running)
    while len(engine._line) or engine._inbox:
        time.sleep(0.005)
    waiting = [request(600) for _ in range(4)]
    for each in waiting:
        engine.submit(each)
    with pytest.raises(QueueFullError):
        engine.submit(request(5))
    engine.abort(waiting[0].id)
    engine.cut(waiting[1].id)
    encoder.hold.set()
    reasons = [output.finish_reason for output in wait_for(running, *waiting)]
    assert reasons[1:3] == [FinishReason.ABORT, FinishReason.LENGTH]
    assert {reasons[0], *reasons[3:]} == {FinishReason.STOP}


def test_texts_of_one_request_wait_outside(engine: TextEngine, encoder: FakeEncoder) -> None:
    encoder.hold = threading.Event()
    texts = [request(3, is_first=i == 0, label="one") for i in range(MAX_WAITING + 600)]
    n_taken = MAX_WAITING  # beside those of the step under way
    for each in texts[:n_taken]:
        engine.submit(each)
    with pytest.raises(QueueFullError):
        submit_all(engine, texts[n_taken:])
    encoder.hold.set()
    wait_for(*texts[:n_taken])


def submit_all(engine: TextEngine, texts: list[Request]) -> None:
    for each in texts:
        engine.submit(each)


def test_shutting_down(engine: TextEngine, encoder: FakeEncoder) -> None:
    encoder.hold = threading.Event()
    running, waiting = request(600), request(600)
    engine.submit(running)
    engine.submit(waiting)
    threading.Timer(0.3, encoder.hold.set).start()
    assert not engine.stop(0.05)
    assert wait_for(running)[0].finish_reason is FinishReason.STOP
    assert wait_for(waiting)[0].error_code == "server_shutdown"
    with pytest.raises(EngineStoppedError):
        engine.submit(request(1))


def test_a_failure_ends_everything_and_shows(engine: TextEngine, encoder: FakeEncoder) -> None:
    encoder.hold = threading.Event()
    running, waiting = request(600), request(600)
    engine.submit(running)
    engine.submit(waiting)
    encoder.fault = RuntimeError("injected")
    encoder.hold.set()
    for output in wait_for(running, waiting):
        assert output.error_code == "server_error"
    engine._thread.join(5)
    assert engine.failure is encoder.fault
    assert not engine.is_alive


def test_no_numbers_are_that_text_s_own_fault(engine: TextEngine, encoder: FakeEncoder) -> None:
    encoder.nan = True
    bad = request(5)
    engine.submit(bad)
    assert wait_for(bad)[0].error_code == "server_error"
    encoder.nan = False
    good = request(5)
    engine.submit(good)
    assert wait_for(good)[0].vector is not None


def test_whoever_waits_too_long_is_told(encoder: FakeEncoder) -> None:
    engine = TextEngine(encoder, max_queue=4, queue_timeout_s=0.05)
    encoder.hold = threading.Event()
    engine.start()
    running, late = request(600), request(600)
    engine.submit(running)
    engine.submit(late)
    time.sleep(0.2)
    encoder.hold.set()
    assert wait_for(running)[0].finish_reason is FinishReason.STOP
    assert wait_for(late)[0].error_code == "queue_timeout"
    engine.stop(5.0)


def line_of(*texts: tuple[str, str, int]) -> TextLine:
    """Texts of (client, request, number of tokens), in order."""
    line = TextLine()
    for i, (client, label, n) in enumerate(texts):
        made = request(n, client=client, label=label)
        made.id = i
        line.add(Waiting(made, np.ones(n, np.int32), 0.0))
    return line


def ids(taken: list[Waiting]) -> list[int]:
    return [waiting.request.id for waiting in taken]


def test_a_batch_holds_nobody_up() -> None:
    many = [("a", "batch", 100)] * 50
    line = line_of(*many, ("a", "single", 100), ("b", "other", 100))
    first = ids(line.take(STEP_TOKENS, 1000, 64))
    assert {50, 51} <= set(first)
    assert len(first) == 5


def test_steps_are_filled_and_never_overfull() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 700, 200).tolist()
    line = line_of(*(("a", str(i % 3), n) for i, n in enumerate(sizes)))
    seen: list[int] = []
    while len(line):
        taken = ids(line.take(STEP_TOKENS, 1000, 8))
        assert taken
        assert len(taken) <= 8
        n = sum(sizes[i] for i in taken)
        assert n <= STEP_TOKENS or len(taken) == 1
        seen += taken
    assert sorted(seen) == list(range(200))


def test_the_urgent_come_first() -> None:
    line = line_of(("a", "x", 500))
    urgent = request(500, client="b", label="y", priority=-1)
    urgent.id = 9
    line.add(Waiting(urgent, np.ones(500, np.int32), 0.0))
    assert ids(line.take(STEP_TOKENS, 1000, 8)) == [9]
    assert line.remove(0) is not None
    assert line.remove(0) is None
    assert len(line) == line.n_requests == 0

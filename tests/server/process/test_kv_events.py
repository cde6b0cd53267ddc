"""Events over a real socket, decoded as vLLM's own subscribers do: the same structs, in arrays."""

from __future__ import annotations

import builtins
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import zmq

from slotmux.runtime.engine.request import Request, SamplingParams
from slotmux.runtime.engine.thread import Engine, EngineConfig
from slotmux.runtime.memory.events import AllCleared, BlocksRemoved, BlocksStored
from slotmux.server.loading.assemble import _events
from slotmux.server.process.kv_events import END, Publisher
from slotmux.server.process.kv_events_config import KvEventsConfig, parse_kv_events_config
from slotmux.server.settings import SettingsError, load_settings
from tests.runtime.engine.fake_model import FakeDetokenizer, FakeModel, FakeTokenizer
from tests.server.http.sockets import eventually


# What vLLM publishes, from vllm/distributed/kv_events.py.
class EventBatch(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    ts: float
    events: list[Any]
    data_parallel_rank: int | None = None


class KVCacheEvent(msgspec.Struct, array_like=True, omit_defaults=True, gc=False, tag=True):
    pass


class BlockStored(KVCacheEvent):
    block_hashes: list[bytes | int]
    parent_block_hash: bytes | int | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None
    medium: str | None
    lora_name: str | None
    extra_keys: list[tuple[Any, ...] | None] | None = None


class BlockRemoved(KVCacheEvent):
    block_hashes: list[bytes | int]
    medium: str | None


class AllBlocksCleared(KVCacheEvent):
    pass


class KVEventBatch(EventBatch):
    events: list[BlockStored | BlockRemoved | AllBlocksCleared]


DECODER = msgspec.msgpack.Decoder(type=KVEventBatch)
TOPIC = "kv@10.0.0.1@tiny"


@pytest.fixture
def endpoints(tmp_path: Any) -> tuple[str, str]:
    return f"ipc://{tmp_path}/events", f"ipc://{tmp_path}/replay"


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context() as context:
        yield context


def publisher_at(endpoints: tuple[str, str], **options: Any) -> Publisher:
    return Publisher(
        KvEventsConfig(
            enable_kv_cache_events=True, endpoint=endpoints[0], replay_endpoint=endpoints[1],
            topic=TOPIC, **options,
        )
    )  # fmt: skip


def subscriber(context: Any, endpoint: str, publisher: Publisher) -> Any:
    """A socket that has joined: what is published from now on reaches it."""
    socket = context.socket(zmq.SUB)
    socket.connect(endpoint)
    socket.subscribe(TOPIC)
    socket.setsockopt(zmq.RCVTIMEO, 10_000)
    deadline = time.monotonic() + 10
    while not socket.poll(20):
        assert time.monotonic() < deadline
        publisher.publish([BlocksRemoved([1])])
    eventually(lambda: publisher.is_idle)
    while socket.poll(100):
        socket.recv_multipart()
    return socket


def received(socket: Any) -> tuple[int, KVEventBatch]:
    topic, seq, payload = socket.recv_multipart()
    assert topic == TOPIC.encode()
    assert len(seq) == 8
    return int.from_bytes(seq, "big"), DECODER.decode(payload)


def test_events_are_decoded_by_vllms_structs(endpoints: tuple[str, str], context: Any) -> None:
    publisher = publisher_at(endpoints)
    try:
        socket = subscriber(context, endpoints[0], publisher)
        tokens = [(7).to_bytes(4, "little") * 16, (8).to_bytes(4, "little") * 16]
        begun = time.time()
        publisher.publish([AllCleared(), BlocksStored([2**64 - 1, 5], None, "key/salt", tokens)])
        publisher.publish([BlocksStored([6], 5, "key/salt", tokens[:1]), BlocksRemoved([6, 5])])
        publisher.publish([BlocksStored([9], None, "key/", tokens[:1])])
        seq, batch = received(socket)
        assert begun <= batch.ts <= time.time()
        assert batch.data_parallel_rank == 0
        assert batch.events == [
            AllBlocksCleared(),
            BlockStored(
                [2**64 - 1, 5], None, [7] * 16 + [8] * 16, 16, None, "GPU", None, [("salt",), None]
            ),
        ]
        following, batch = received(socket)
        assert following == seq + 1
        assert batch.events == [
            BlockStored([6], 5, [7] * 16, 16, None, "GPU", None, [None]),
            BlockRemoved([6, 5], "GPU"),
        ]
        # Without a salt of the request there is no extra key; whose key it was is not told.
        assert received(socket)[1].events == [
            BlockStored([9], None, [7] * 16, 16, None, "GPU", None)
        ]
        socket.close()
    finally:
        publisher.close()


def test_what_was_missed_is_replayed(endpoints: tuple[str, str], context: Any) -> None:
    publisher = publisher_at(endpoints, buffer_steps=3)
    try:
        for name in range(5):
            publisher.publish([BlocksRemoved([name + 1])])
        eventually(lambda: publisher.n_published == 5)

        def replay(first: int) -> list[tuple[int, list[Any]]]:
            socket = context.socket(zmq.REQ)
            socket.setsockopt(zmq.RCVTIMEO, 10_000)
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(endpoints[1])
            socket.send(first.to_bytes(8, "big"))
            parts = [socket.recv_multipart()]
            # A REQ socket reads one answer; vLLM's example reads on below it as we do here.
            socket.close()
            return [
                (int.from_bytes(seq, "big"), DECODER.decode(data).events) for seq, data in parts
            ]

        assert replay(3) == [(3, [BlockRemoved([4], "GPU")])]
        assert replay(0) == [(2, [BlockRemoved([3], "GPU")])]  # the three last are kept
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.RCVTIMEO, 10_000)
        dealer.connect(endpoints[1])
        dealer.send_multipart((b"", (3).to_bytes(8, "big")))
        frames = [dealer.recv_multipart() for _ in range(3)]
        assert [int.from_bytes(f[1], "big", signed=True) for f in frames] == [3, 4, -1]
        assert frames[-1] == [b"", END, b""]
        dealer.send_multipart((b"", b"way too long"))
        dealer.send_multipart((b"", (9).to_bytes(8, "big")))
        assert dealer.recv_multipart() == [b"", END, b""]
        dealer.close()
    finally:
        publisher.close()


def test_a_full_queue_loses_a_number_and_holds_nobody_up(endpoints: tuple[str, str]) -> None:
    publisher = publisher_at(endpoints, max_queue_size=2)
    try:
        outcomes = [publisher.publish([BlocksRemoved([1])] * 200) for _ in range(500)]
        assert False in outcomes
        eventually(lambda: publisher.is_idle)
        assert publisher.n_dropped == outcomes.count(False)
        assert publisher.n_published == outcomes.count(True)
        kept = [seq for seq, _ in publisher._kept]
        assert kept == [seq for seq, taken in enumerate(outcomes) if taken]
    finally:
        publisher.close()


@pytest.mark.parametrize("n_rows", [0, 12])
def test_a_served_prompt_is_told_with_its_tokens(
    endpoints: tuple[str, str], context: Any, n_rows: int
) -> None:
    publisher = publisher_at(endpoints)
    model = FakeModel(2, 128, n_blocks=16, n_rows=n_rows)
    config = EngineConfig(2, 128, poison_freed=True)
    engine = Engine(
        model, FakeTokenizer(), config, new_detokenizer=FakeDetokenizer, events=publisher
    )
    try:
        socket = subscriber(context, endpoints[0], publisher)
        engine.start()
        prompt, ended = list(range(50)), []
        request = Request(
            prompt=prompt, sampling=SamplingParams(temperature=0.0), max_tokens=4, ignore_eos=True,
            on_output=lambda _, outputs: ended.extend(o for o in outputs if o.finish_reason),
        )  # fmt: skip
        engine.submit(request)
        eventually(lambda: bool(ended))
        assert received(socket)[1].events[0] == AllBlocksCleared()
        stored: list[BlockStored] = []
        while socket.poll(300):
            stored += [e for e in received(socket)[1].events if isinstance(e, BlockStored)]
        assert [t for event in stored for t in event.token_ids] == prompt[:48]
        names = [name for event in stored for name in event.block_hashes]
        assert len(set(names)) == 3
        assert [event.parent_block_hash for event in stored] == [
            None if not n else names[n - 1]
            for n in (sum(len(e.block_hashes) for e in stored[:i]) for i in range(len(stored)))
        ]
        socket.close()
    finally:
        engine.stop()
        publisher.close()


def test_the_flag_is_vllms() -> None:
    text = (
        '{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:5557",'
        '"topic":"kv@host@model"}'
    )
    config = parse_kv_events_config(text)
    assert config.is_on
    assert (config.endpoint, config.topic) == ("tcp://*:5557", "kv@host@model")
    assert not parse_kv_events_config("{}").is_on
    assert not parse_kv_events_config('{"enable_kv_cache_events": true, "publisher": "null"}').is_on


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "JSON"),
        ('{"endpoints": "tcp://*:1"}', "endpoints"),
        ('{"endpoint": "5557"}', "endpoint"),
        ('{"buffer_steps": "3"}', "buffer_steps"),
        ('{"publisher": "kafka"}', "publisher"),
    ],
)
def test_what_the_flag_cannot_mean_is_refused(text: str, told: str) -> None:
    with pytest.raises(SettingsError, match=f"--kv-events-config.*{told}"):
        load_settings(kv_events_config=text)


def test_an_address_that_cannot_be_used_is_told() -> None:
    text = '{"enable_kv_cache_events": true, "endpoint": "ipc:///nowhere/at/all"}'
    with pytest.raises(SettingsError, match="--kv-events-config"):
        _events(load_settings(kv_events_config=text))


def test_without_the_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any) -> Any:
        if name == "slotmux.server.process.kv_events":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(SettingsError, match=r"slotmux\[events\]"):
        _events(load_settings(kv_events_config='{"enable_kv_cache_events": true}'))
    assert _events(load_settings(kv_events_config='{"enable_kv_cache_events": false}')) is None

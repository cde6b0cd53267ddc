"""Events of the prefix cache over ZeroMQ, as vLLM publishes them: llm-d's and Dynamo's routers know
from them where a prompt's beginning is in memory. Imported only with --kv-events-config.

A message is [topic, sequence number (8 bytes, big-endian), payload]; the payload is a batch in
MessagePack, structs as arrays: [time, [event, ...], 0]. Whoever has missed some asks at the replay
endpoint for those from a number on.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from typing import Any

import msgspec
import numpy as np
import zmq

from slotmux.runtime.memory.events import AllCleared, BlocksRemoved, BlocksStored, Event
from slotmux.runtime.ubatch import BLOCK_CELLS
from slotmux.server.process.kv_events_config import KvEventsConfig
from slotmux.server.process.logs import LOGGER

log = logging.getLogger(LOGGER)
END = (-1).to_bytes(8, "big", signed=True)  # of a replay
MEDIUM = "GPU"  # vLLM's name for the memory that a model computes from
POLL_S = 0.1
CLOSE_S = 1.0
# Old events are kept for replay, but not more than this.
MAX_REPLAY_BYTES = 64 * 2**20


class BlockStored(msgspec.Struct, array_like=True, omit_defaults=True, tag=True):
    """Blocks that follow each other, in vLLM's order of fields."""

    block_hashes: list[int]
    parent_block_hash: int | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None
    medium: str | None
    lora_name: str | None
    extra_keys: list[list[str] | None] | None = None


class BlockRemoved(msgspec.Struct, array_like=True, omit_defaults=True, tag=True):
    """Blocks that are not there any more."""

    block_hashes: list[int]
    medium: str | None


class AllBlocksCleared(msgspec.Struct, array_like=True, omit_defaults=True, tag=True):
    """No block is there."""


class Publisher:
    """Encodes and sends on a thread of its own; the engine's thread never waits for it.

    Raises OSError when an endpoint cannot be used.
    """

    def __init__(self, config: KvEventsConfig) -> None:
        self.n_published = self.n_dropped = 0  # batches
        self._topic = config.topic.encode()
        self._queue: queue.Queue[tuple[int, float, list[Event]] | None] = queue.Queue(
            config.max_queue_size
        )
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=config.buffer_steps)
        self._n_kept_bytes = 0
        self._n_seqs = 0
        self._is_busy = False
        self._is_closing = False
        self._context = zmq.Context()
        try:
            self._pub = self._open(zmq.PUB, config.endpoint, config.hwm)
            self._replay = None
            if config.replay_endpoint:
                self._replay = self._open(zmq.ROUTER, config.replay_endpoint, config.hwm)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise OSError(error.errno, str(error)) from error
        self._thread = threading.Thread(target=self._run, name="slotmux-kv-events", daemon=True)
        self._thread.start()

    def _open(self, kind: int, endpoint: str, hwm: int) -> zmq.Socket[bytes]:
        """vLLM's rule: an address that names a host is connected to, others are bound."""
        socket = self._context.socket(kind)
        socket.set_hwm(hwm)
        is_here = "*" in endpoint or "::" in endpoint or not endpoint.startswith("tcp:")
        if kind == zmq.ROUTER or is_here:
            socket.bind(endpoint)
        else:
            socket.connect(endpoint)
        return socket

    @property
    def is_idle(self) -> bool:
        """Whether everything has been sent."""
        return self._queue.empty() and not self._is_busy

    def publish(self, events: list[Event]) -> bool:
        """Take a batch; False if there was no room for it: its sequence number is left out."""
        seq, self._n_seqs = self._n_seqs, self._n_seqs + 1
        try:
            self._queue.put_nowait((seq, time.time(), events))
        except queue.Full:
            self.n_dropped += 1
            return False
        return True

    def close(self) -> None:
        """Send what waits, for a second at most, and end."""
        self._is_closing = True
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():
            self._context.destroy(linger=100)

    def _run(self) -> None:
        while not (self._is_closing and self._queue.empty()):
            try:
                if self._replay is not None and self._replay.poll(0):
                    self._answer(self._replay)
                self._send_next()
            except Exception:
                log.exception("events of the prefix cache: a batch was not sent")

    def _send_next(self) -> None:
        try:
            item = self._queue.get(timeout=POLL_S)
        except queue.Empty:
            return
        assert item is not None
        self._is_busy = True
        try:
            seq, when, events = item
            payload = msgspec.msgpack.encode([when, [_in_words(event) for event in events], 0])
            self._pub.send_multipart((self._topic, seq.to_bytes(8, "big"), payload))
            self._keep(seq, payload)
            self.n_published += 1
        finally:
            self._is_busy = False

    def _keep(self, seq: int, payload: bytes) -> None:
        kept = self._kept
        if len(kept) == kept.maxlen:
            self._n_kept_bytes -= len(kept[0][1])
        kept.append((seq, payload))
        self._n_kept_bytes += len(payload)
        while self._n_kept_bytes > MAX_REPLAY_BYTES:
            self._n_kept_bytes -= len(kept.popleft()[1])

    def _answer(self, replay: zmq.Socket[bytes]) -> None:
        """Send what is kept from the number on that somebody asks for."""
        frames = replay.recv_multipart()
        if len(frames) != 3 or len(frames[2]) > 8:
            log.warning(
                "events of the prefix cache: a replay was asked for in %d parts", len(frames)
            )
            return
        client, _, first = frames
        for seq, payload in self._kept:
            if seq >= int.from_bytes(first, "big"):
                replay.send_multipart((client, b"", seq.to_bytes(8, "big"), payload))
        replay.send_multipart((client, b"", END, b""))


def _in_words(event: Event) -> BlockStored | BlockRemoved | AllBlocksCleared:
    if isinstance(event, AllCleared):
        return AllBlocksCleared()
    if isinstance(event, BlocksRemoved):
        return BlockRemoved(event.names, MEDIUM)
    assert isinstance(event, BlocksStored)
    tokens: list[Any] = np.frombuffer(b"".join(event.tokens), np.int32).tolist()
    return BlockStored(
        block_hashes=event.names,
        parent_block_hash=event.parent,
        token_ids=tokens,
        block_size=BLOCK_CELLS,
        lora_id=None,
        medium=MEDIUM,
        lora_name=None,
        extra_keys=_extra_keys(event),
    )


def _extra_keys(event: BlocksStored) -> list[list[str] | None] | None:
    """As in vLLM the salt of a request is a key of its first block. Whose API key it was is not
    told."""
    salt = event.salt.partition("/")[2]
    if not salt:
        return None
    first: list[str] | None = [salt] if event.parent is None else None
    return [first, *[None] * (len(event.names) - 1)]

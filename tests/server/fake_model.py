"""A tokenizer whose tokens are bytes, a template that is a loop, and a server around both."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import uvicorn

from slotmux.runtime.tokenizer import FimIds, PromptTooLongError
from slotmux.server.http.app import create_app
from slotmux.server.http.connection import bounded_by
from slotmux.server.process.state import Loaded, ModelInfo, ServerState
from slotmux.server.settings import Settings
from slotmux.server.templates.chat_template import TemplateError
from tests.server.fake_engine import FakeEngine


class ByteTokenizer:
    """Token i is byte i; 256 is a control token."""

    n_vocab = 257
    bos_id = None
    eos_id = 256
    eog_ids = frozenset({256})
    special_ids = frozenset({256})
    fim = FimIds()

    def encode(
        self,
        text: str,
        *,
        add_special: bool = True,
        parse_special: bool = False,
        max_tokens: int | None = None,
    ) -> list[int]:
        ids = list(text.encode())
        if max_tokens is not None and len(ids) > max_tokens:
            raise PromptTooLongError(len(ids), max_tokens)
        return ids

    def encode_inside(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_rendered(self, rendered: Any, *, max_tokens: int | None = None) -> list[int]:
        return self.encode(rendered.text, max_tokens=max_tokens)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        return bytes(i for i in ids if i < 256).decode("utf-8", "replace")

    def is_control(self, token_id: int) -> bool:
        return token_id >= 256

    def token_bytes(self, token_id: int, *, skip_special: bool = False) -> bytes:
        return bytes([token_id]) if token_id < 256 else b""

    def all_token_bytes(self) -> list[bytes]:
        return [self.token_bytes(token_id) for token_id in range(self.n_vocab)]


@dataclass(frozen=True)
class Rendered:
    text: str


def _joined(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


class LoopTemplate:
    """'<role>content' for every message, then the keyword arguments."""

    def render(
        self,
        messages: list[dict[str, Any]],
        *,
        tools: list[dict[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        kwargs: Mapping[str, Any],
    ) -> Rendered:
        if messages[0]["content"] == "refuse me":
            raise TemplateError("the template refused", "messages[0]")
        lines = "".join(f"<{m['role']}>{_joined(m['content'])}" for m in messages)
        return Rendered(lines + "".join(f"[{k}={v}]" for k, v in kwargs.items()))


def loaded_with(engine: FakeEngine, **info: Any) -> Loaded:
    facts = {"name": "fake", "n_ctx": engine.n_ctx, "n_ctx_train": 512, "n_slots": engine.n_slots}
    facts |= {"pooling": "last", "n_vector": 4}
    return Loaded(
        engine=engine,
        tokenizer=ByteTokenizer(),
        template=LoopTemplate(),
        info=ModelInfo(**(facts | info)),
        n_max_token_bytes=1,
    )


class RunningServer:
    """A real uvicorn on a free loopback port, in a thread of this process."""

    def __init__(self, settings: Settings, loaded: Loaded | None) -> None:
        self._loaded = loaded
        self.engine: Any = None if loaded is None else loaded.engine
        self.state = ServerState(settings)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(
            create_app(self.state), loop="uvloop", http=bounded_by(settings), ws="none",
            lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.loop: asyncio.AbstractEventLoop | None = None
        self._is_up = threading.Event()

    def start(self) -> None:
        self._thread.start()
        assert self._is_up.wait(10)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()
        if self.engine is not None and self.engine.is_alive:
            self.engine.stop(0)
        self.state.close()

    def call(self, coroutine: Any) -> Any:
        """Runs a coroutine on the server's loop."""
        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        if self.engine is not None:
            self.engine.start()
            self.state.become_ready(self._loaded)
        task = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        while not self._server.started:
            await asyncio.sleep(0.005)
        self._is_up.set()
        await task


@contextlib.contextmanager
def running(engine: FakeEngine | Loaded | None = None, **settings: Any) -> Iterator[RunningServer]:
    """A server for one test or one module."""
    loaded = loaded_with(engine) if isinstance(engine, FakeEngine) else engine
    server = RunningServer(Settings(**settings), loaded)
    server.start()
    try:
        yield server
    finally:
        server.stop()

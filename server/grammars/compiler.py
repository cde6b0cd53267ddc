"""From a client's specification to a ConstraintFactory: checked, tried out in a process of its own,
compiled, kept for the client who brought it."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

import orjson
from llguidance import LLTokenizer

from slotmux.runtime.engine.constraint import ConstraintError
from slotmux.server.grammars.guard import Guard
from slotmux.server.grammars.json_schema import alone, subschemas
from slotmux.server.grammars.matcher import Factory, begin_library_tokenizer
from slotmux.server.grammars.reasons import reason, unenforced
from slotmux.server.grammars.source import source_of, unchecked_json_source
from slotmux.server.grammars.spec import GrammarError, GrammarSpec, Path
from slotmux.server.interfaces import TokenizerPort

N_THREADS = 2
MAX_ENTRIES = 128
MAX_KEPT_BYTES = 4 << 20  # of the specifications that are kept
MAX_PARTS = 200  # subschemas tried to find the place of a fault

Key = tuple[str, str, str]  # tenant, kind, text


class Grammars:
    """Compiles and keeps grammars. ``compile`` on the event loop; work on threads of its own."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, Factory | GrammarError] = OrderedDict()
        self._n_kept_bytes = 0
        self._pending: dict[Key, asyncio.Future[Factory | GrammarError]] = {}
        self._pool = ThreadPoolExecutor(N_THREADS, thread_name_prefix="slotmux-compile")
        self._local = threading.local()
        self._guards: list[Guard] = []
        self._lock = threading.Lock()
        self._tokenizers: dict[int, Future[LLTokenizer]] = {}

    def know(self, tokenizer: TokenizerPort, vocabulary: Future[LLTokenizer]) -> None:
        """Take what is being made of a tokenizer; otherwise the first grammar has it made."""
        with self._lock:
            self._tokenizers[id(tokenizer)] = vocabulary

    async def compile(self, tokenizer: TokenizerPort, spec: GrammarSpec, tenant: str) -> Factory:
        """Raises GrammarError. One tenant never gets what another brought."""
        key = (tenant, spec.kind, spec.text)
        found = self._kept.get(key)
        if found is None:
            found = await self._compile_once(key, tokenizer, spec)
        else:
            self._kept.move_to_end(key)
        if isinstance(found, GrammarError):
            raise GrammarError(str(found), found.path)
        return found

    async def _compile_once(
        self, key: Key, tokenizer: TokenizerPort, spec: GrammarSpec
    ) -> Factory | GrammarError:
        """Together with all that want the same at the same time."""
        pending = self._pending.get(key)
        if pending is None:
            loop = asyncio.get_running_loop()
            pending = loop.run_in_executor(self._pool, self._compile, tokenizer, spec)
            self._pending[key] = pending
            pending.add_done_callback(lambda done: self._keep(key, done))
        return await asyncio.shield(pending)

    def _keep(self, key: Key, done: asyncio.Future[Factory | GrammarError]) -> None:
        del self._pending[key]
        if done.cancelled() or done.exception() is not None:
            return
        result = done.result()
        if isinstance(result, GrammarError) and not result.is_final:
            return
        self._kept[key] = result
        self._n_kept_bytes += len(key[2])
        while len(self._kept) > MAX_ENTRIES or self._n_kept_bytes > MAX_KEPT_BYTES:
            oldest, _ = self._kept.popitem(last=False)
            self._n_kept_bytes -= len(oldest[2])

    @property
    def n_kept(self) -> int:
        """Grammars in memory, wrong ones too."""
        return len(self._kept)

    def close(self) -> None:
        """End threads and processes."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for guard in self._guards:
                guard.close()
            self._guards.clear()

    # -- on threads

    def _compile(self, tokenizer: TokenizerPort, spec: GrammarSpec) -> Factory | GrammarError:
        try:
            source = source_of(spec)
            guard = self._guard()
            fault = guard.first_fault([source])
            if fault is not None:
                return GrammarError(reason(fault[1], spec.kind), self._place(spec))
            passed_over = unenforced(guard.warnings)
            return Factory(self._library_tokenizer(tokenizer), source, passed_over)
        except GrammarError as error:
            return error
        except ConstraintError as error:
            return GrammarError(reason(str(error), spec.kind))

    def _guard(self) -> Guard:
        guard: Guard | None = getattr(self._local, "guard", None)
        if guard is None:
            guard = self._local.guard = Guard()
            with self._lock:
                self._guards.append(guard)
        return guard

    def _library_tokenizer(self, tokenizer: TokenizerPort) -> LLTokenizer:
        with self._lock:
            found = self._tokenizers.get(id(tokenizer))
            if found is None:
                found = self._tokenizers[id(tokenizer)] = begin_library_tokenizer(tokenizer)
        return found.result()

    def _place(self, spec: GrammarSpec) -> Path:
        """Where in a schema the fault lies: the innermost part that is wrong by itself."""
        if spec.kind != "json_schema":
            return ()
        root = orjson.loads(spec.text)
        path: Path = ()
        node: object = root
        n_left = MAX_PARTS
        while n_left > 0 and (parts := list(subschemas(path, node))[:n_left]):
            n_left -= len(parts)
            sources = [unchecked_json_source(alone(root, at)) for at, _ in parts]
            try:
                fault = self._guard().first_fault(sources)
            except GrammarError:
                break  # too slow to look closer
            if fault is None:
                break
            path, node = parts[fault[0]]
        return path

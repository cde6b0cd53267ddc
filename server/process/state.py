"""What all routes of one app share: settings, the loaded model, and where in its life it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ParamSpec, Protocol, TypeVar

from llguidance import LLTokenizer
from starlette.requests import Request

from slotmux.runtime.engine.config import SpecConfig
from slotmux.runtime.memory.events import Event
from slotmux.server.answers.breakers import BreakerFinder
from slotmux.server.answers.intake import Intake
from slotmux.server.answers.sampling import SamplingDefaults
from slotmux.server.answers.texts.pairs import PairForm
from slotmux.server.grammars.compiler import Grammars
from slotmux.server.http.auth import ApiKeys
from slotmux.server.http.errors import engine_dead, model_loading, shutting_down
from slotmux.server.http.trace import Trace
from slotmux.server.interfaces import EnginePort, MetricsPort, TemplatePort, TokenizerPort
from slotmux.server.loading.budget import Budget
from slotmux.server.process.history import History
from slotmux.server.process.pulse import Pulse
from slotmux.server.settings import Settings
from slotmux.server.tools.style import ChatStyle

_P = ParamSpec("_P")
_R = TypeVar("_R")
DEFAULT_NAME = "default"


class TelemetryPort(Protocol):
    """slotmux.server.process.telemetry.Telemetry, which is imported only where it is wanted."""

    def record(self, trace: Trace, method: str, route: str, model: str) -> None:
        """Tells of a request that has just ended."""

    def shutdown(self) -> None:
        """Sends what there still is."""


class KvEventsPort(Protocol):
    """slotmux.server.process.kv_events.Publisher, which is imported only where it is wanted."""

    @property
    def is_idle(self) -> bool: ...
    def publish(self, events: list[Event]) -> bool: ...
    @property
    def n_published(self) -> int:
        """Batches sent."""

    @property
    def n_dropped(self) -> int:
        """Batches for which there was no room."""

    def close(self) -> None:
        """Sends what there still is."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Facts about the served model that routes tell clients."""

    name: str  # the first name clients may use
    n_ctx: int  # most tokens of one sequence
    n_ctx_train: int
    n_slots: int
    aliases: tuple[str, ...] = ()  # further names
    architecture: str = ""
    file_name: str = ""
    n_params: int = 0
    n_bytes: int = 0
    n_embd: int = 0
    vocab_type: str = ""
    bos_text: str = ""
    eos_text: str = ""
    chat_template: str = ""
    can_generate: bool = True
    # What a text's vector is: none (one of each token), mean, cls, last; rank: a score of a query
    # and a document; "": it gives none.
    pooling: str = ""
    n_vector: int = 0  # numbers of one

    @property
    def abilities(self) -> list[str]:
        """What it can be asked for."""
        found = ["completion"] if self.can_generate else []
        if self.pooling:
            found.append("rerank" if self.pooling == "rank" else "embedding")
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that is told."""
        return (self.name, *self.aliases)

    def served_as(self, asked: str | None) -> str | None:
        """The told name of the model that a request asks for; None if it is another's.

        It answers to its names and to that of its file, with and without .gguf, in any case, to
        "default", and to each with Ollama's ":latest".
        """
        if asked is None or asked in self.names:
            return asked or self.name
        folded = asked.casefold().removesuffix(":latest")
        for name in self.names:
            if folded == name.casefold():
                return name
        file_name = self.file_name.casefold()
        others = {DEFAULT_NAME, file_name, file_name.removesuffix(".gguf")}
        return self.name if folded and folded in others else None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to serve: what serve.run's ``load`` returns. The engine is not started yet."""

    engine: EnginePort
    tokenizer: TokenizerPort
    template: TemplatePort | None  # None: the model has no chat template
    info: ModelInfo
    n_max_token_bytes: int  # of the longest token: bounds a prompt before it is tokenized
    spec: SpecConfig = field(default_factory=SpecConfig)  # speculative decoding
    style: ChatStyle = field(default_factory=ChatStyle)  # how it thinks and calls
    keeps_states: bool = False  # recurrent layers: where messages begin is worth a checkpoint
    identity: str = ""  # of model and cell types: what saved memory is good for
    n_compiled: Callable[[], int] = int  # kernels compiled so far; constant once it is ready
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    vocabulary: Future[LLTokenizer] | None = None  # for grammars; None: made for the first one
    kv_events: KvEventsPort | None = None  # with --kv-events-config
    budget: Budget | None = None  # what its parts weigh
    pairs: PairForm = field(default_factory=PairForm)  # how a model that ranks reads two texts
    breakers: BreakerFinder = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "breakers", BreakerFinder(self.tokenizer))

    @property
    def n_vocab(self) -> int:
        """Tokens of the vocabulary."""
        return self.tokenizer.n_vocab


@dataclass(slots=True)
class Service:
    """A loaded model with its intake: what exists only once the server is ready."""

    loaded: Loaded
    intake: Intake
    pulse: Pulse
    history: History


@dataclass(slots=True)
class ServerState:
    """Belongs to the event loop."""

    settings: Settings
    started: int = field(default_factory=lambda: int(time.time()))
    service: Service | None = None
    keys: ApiKeys = field(init=False)
    grammars: Grammars = field(default_factory=Grammars)
    metrics: MetricsPort = field(init=False)  # set by create_app
    telemetry: TelemetryPort | None = None  # with --otel-endpoint
    _pool: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.keys = ApiKeys(self.settings.api_keys)
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="slotmux-text")

    def become_ready(self, loaded: Loaded) -> None:
        """From now on requests are served. Call on the event loop, with the engine started."""
        intake = Intake(loaded.engine, asyncio.get_running_loop())
        self.service = Service(loaded, intake, Pulse(loaded.engine), History(loaded.engine))
        if loaded.vocabulary is not None:
            self.grammars.know(loaded.tokenizer, loaded.vocabulary)

    def ready(self) -> Service:
        """The service. Raises ApiError 503 while loading, draining, or when the engine died."""
        service = self.service
        if service is None:
            raise model_loading()
        if not service.loaded.engine.is_alive and not service.intake.is_draining:
            raise engine_dead()
        if service.intake.is_draining:
            raise shutting_down()
        return service

    async def off_loop(self, call: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Runs tokenization or template work on a small pool of threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: call(*args, **kwargs))

    def close(self) -> None:
        """Lets the pool's threads go, and sends what telemetry has left."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.grammars.close()
        if self.service is not None and self.service.loaded.kv_events is not None:
            self.service.loaded.kv_events.close()
        if self.telemetry is not None:
            self.telemetry.shutdown()


def state_of(request: Request) -> ServerState:
    """The state of the app that serves ``request``."""
    state: ServerState = request.app.state.server
    return state

"""What the HTTP layer needs from the rest, so that its tests can put plain fakes there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from slotmux.runtime.engine.request import Request
from slotmux.runtime.engine.stats import EngineStats
from slotmux.runtime.tokenizer import FimIds

if TYPE_CHECKING:
    from slotmux.runtime.engine.core import Core

T = TypeVar("T")


class EnginePort(Protocol):
    """The engine (runtime/engine/thread.py) as the HTTP layer sees it. Any thread."""

    def start(self) -> None:
        """Starts the engine thread."""

    def stop(self, drain_timeout_s: float) -> bool:
        """Ends it; False if it did not end in time."""

    def submit(self, request: Request) -> int:
        """Queues a request and returns its id."""

    def abort(self, request_id: int) -> None:
        """Ends a request; no-op when it is unknown or finished."""

    def cut(self, request_id: int) -> None:
        """Ends a request with what it has; no-op when it is unknown or finished."""

    def errand(self, run: Callable[[Core], T]) -> Future[T]:
        """Has ``run`` called on the engine thread. Raises EngineStoppedError."""

    def stats(self) -> EngineStats:
        """A snapshot of counters."""

    @property
    def is_alive(self) -> bool:
        """Whether the engine thread runs."""

    @property
    def failure(self) -> BaseException | None:
        """What ended the engine thread, if anything did."""


class TokenizerPort(Protocol):
    """slotmux.runtime.tokenizer.Tokenizer; encode and decode are safe on several threads."""

    n_vocab: int
    bos_id: int | None
    eos_id: int | None
    eog_ids: frozenset[int]
    fim: FimIds  # tokens of fill-in-the-middle prompts

    def encode(
        self,
        text: str,
        *,
        add_special: bool = True,
        parse_special: bool = False,
        max_tokens: int | None = None,
    ) -> list[int]:
        """Token ids of a text. Raises PromptTooLongError beyond ``max_tokens``."""

    def encode_rendered(self, rendered: Any, *, max_tokens: int | None = None) -> list[int]:
        """Token ids of a chat prompt; specials only where the template put them."""

    def encode_inside(self, text: str) -> list[int]:
        """Token ids of plain text that goes on from other text; no special token."""

    @property
    def special_ids(self) -> frozenset[int]:
        """Tokens that mean something else than their text."""

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Text of token ids."""

    def is_control(self, token_id: int) -> bool:
        """Whether readers of an answer do not see the token."""

    def token_bytes(self, token_id: int, *, skip_special: bool = False) -> bytes:
        """Raw bytes of one token; none of a control token if those are skipped."""

    def all_token_bytes(self) -> list[bytes]:
        """Raw bytes of every token, by id."""


class MetricsPort(Protocol):
    """slotmux.server.process.metrics.Metrics."""

    def count_request(self, route: str, status: int, code: str | None) -> None:
        """One finished HTTP request; ``code`` is that of its error, if any."""

    def render(self) -> bytes:
        """The text exposition."""


class RenderedPort(Protocol):
    """slotmux.runtime.tokenizer.Rendered: a chat prompt that remembers what came from users."""

    @property
    def text(self) -> str:
        """The prompt as it is meant to be read."""


class TemplatePort(Protocol):
    """slotmux.server.templates.chat_template.ChatTemplate."""

    def render(
        self,
        messages: list[dict[str, Any]],
        *,
        tools: list[dict[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        kwargs: Mapping[str, Any],
    ) -> RenderedPort:
        """A rendered prompt."""

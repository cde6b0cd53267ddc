"""DRY's sequence breakers: from texts to the tokens that hold them, or begin them."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.token_sets import Breakers
from slotmux.runtime.ubatch import I32
from slotmux.server.interfaces import TokenizerPort

MAX_KEPT = 32
MAX_TAIL = 20  # tokens behind the one that begins a breaker, as in llama-server


class BreakerFinder:
    """Of one vocabulary. Any thread; the first call reads all tokens (0.2 s for 150,000)."""

    def __init__(self, tokenizer: TokenizerPort) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, ...], Breakers] = OrderedDict()
        self._bytes: NDArray[np.uint8] | None = None
        self._ends: NDArray[np.int64] = np.zeros(0, np.int64)

    def find(self, texts: tuple[str, ...]) -> Breakers:
        """Tokens that hold one of the texts, and sequences whose first token ends in a beginning
        of one and whose others are what is left of it."""
        with self._lock:
            known = self._known.get(texts)
            if known is None:
                known = self._known[texts] = self._find(texts)
            self._known.move_to_end(texts)
            while len(self._known) > MAX_KEPT:
                self._known.popitem(last=False)
        return known

    def _find(self, texts: tuple[str, ...]) -> Breakers:
        if self._bytes is None:
            self._read()
        single = [np.zeros(0, np.int32)]
        several: list[list[int]] = []
        for text in texts:
            wanted = text.encode()
            holding = self._tokens_with(wanted)
            single.append(holding)
            for n in range(1, len(wanted)):
                heads = np.setdiff1d(self._tokens_ending_in(wanted[:n]), holding)
                tail = self._tail(wanted[n:]) if heads.size else []
                several += [[head, *tail] for head in heads.tolist() if tail]
        return Breakers.of(np.concatenate(single), several, self._tokenizer.n_vocab)

    def _tail(self, rest: bytes) -> list[int]:
        text = rest.decode("utf-8", "ignore")
        return self._tokenizer.encode(text, add_special=False)[:MAX_TAIL] if text else []

    def _read(self) -> None:
        pieces = self._tokenizer.all_token_bytes()
        self._ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
        self._bytes = np.frombuffer(b"".join(pieces), np.uint8)

    def _places(self, wanted: bytes) -> NDArray[np.int64]:
        """Where the joined texts of all tokens hold ``wanted``."""
        text = self._bytes
        assert text is not None
        places = np.flatnonzero(text[: max(0, text.size - len(wanted) + 1)] == wanted[0])
        for i, byte in enumerate(wanted[1:], 1):
            places = places[text[places + i] == byte]
        return places

    def _tokens_with(self, wanted: bytes) -> I32:
        places = self._places(wanted)
        tokens = np.searchsorted(self._ends, places, side="right")
        inside = places + len(wanted) <= self._ends[tokens]
        return np.unique(tokens[inside]).astype(np.int32)

    def _tokens_ending_in(self, wanted: bytes) -> I32:
        places = self._places(wanted)
        tokens = np.searchsorted(self._ends, places, side="right")
        at_end = places + len(wanted) == self._ends[tokens]
        return np.unique(tokens[at_end]).astype(np.int32)

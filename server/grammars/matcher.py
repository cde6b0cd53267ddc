"""llguidance behind the engine's protocols, and the model's vocabulary as llguidance wants it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import takewhile

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from slotmux.runtime.engine.constraint import ConstraintError
from slotmux.server.grammars.child import limits
from slotmux.server.interfaces import TokenizerPort


class _Vocabulary:
    """What TokenizerWrapper asks for."""

    def __init__(self, tokenizer: TokenizerPort, eos_id: int) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = eos_id
        self.bos_token_id = tokenizer.bos_id
        self.tokens: Sequence[bytes] = tokenizer.all_token_bytes()
        self.special_token_ids = sorted(tokenizer.special_ids | tokenizer.eog_ids)

    def __call__(self, text: bytes | str) -> list[int]:
        """How the model's own tokenizer spells what is forced; with bytes that are no text yet
        llguidance comes to terms by itself."""
        return self._tokenizer.encode_inside(text if isinstance(text, str) else text.decode())


def library_tokenizer(tokenizer: TokenizerPort) -> LLTokenizer:
    """Takes half a second of a CPU for a large vocabulary, with the GIL held, and some 50 MB."""
    # A model without any end token: answers end when their grammar does.
    ends = sorted(tokenizer.eog_ids) or [tokenizer.eos_id or 0]
    vocabulary = _Vocabulary(tokenizer, ends[0])
    wrapper = TokenizerWrapper(vocabulary)
    made = LLTokenizer(wrapper, n_vocab=tokenizer.n_vocab, eos_token=ends)
    vocabulary.tokens = wrapper.tokens = ()  # it has its own copy, and keeps the wrapper
    return made


def begin_library_tokenizer(tokenizer: TokenizerPort) -> Future[LLTokenizer]:
    """The same on a thread of its own, which ends with it."""
    future: Future[LLTokenizer] = Future()

    def make() -> None:
        try:
            future.set_result(library_tokenizer(tokenizer))
        except BaseException as error:
            future.set_exception(error)

    # No daemon: a start that is refused waits for it, since the library's thread cannot lose its
    # interpreter.
    threading.Thread(target=make, name="slotmux-vocabulary").start()
    return future


class Factory:
    """A ConstraintFactory: copies of one compiled grammar, which share what they learn of it."""

    def __init__(
        self, tokenizer: LLTokenizer, source: str, unenforced: tuple[str, ...] = ()
    ) -> None:
        """``unenforced``: keywords of schemas that are passed over. Raises ConstraintError, with
        llguidance's own words, for a wrong grammar."""
        self.unenforced = unenforced
        self._matcher = LLMatcher(tokenizer, source, log_level=0, limits=limits())
        self._lock = threading.Lock()
        self._n_vocab = tokenizer.vocab_size
        # Copies begin with this mask: of free text it takes longer than most.
        self._matcher.compute_bitmask()
        if self._matcher.is_error():
            raise ConstraintError(self._matcher.get_error())

    def __call__(self) -> Matcher:
        with self._lock:
            return Matcher(self._matcher.deep_copy(), self._n_vocab)


class Matcher:
    """A MatcherLike."""

    __slots__ = ("_matcher", "_n_vocab", "_n_words")

    def __init__(self, matcher: LLMatcher, n_vocab: int) -> None:
        self._matcher, self._n_vocab = matcher, n_vocab
        self._n_words = -(-n_vocab // 32)

    def consume(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            raise ConstraintError(_TOO_COMPLEX)

    def rollback(self, n_tokens: int) -> None:
        if not self._matcher.rollback(n_tokens):
            raise ConstraintError(_TOO_COMPLEX)

    def fill_mask(self, words: NDArray[np.uint32]) -> None:
        assert words.flags.c_contiguous
        n_words = self._n_words
        self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, 4 * n_words)
        words[n_words:] = 0  # rows of logits without a token
        if self._matcher.is_error():
            raise ConstraintError(_TOO_COMPLEX)

    def forced(self) -> list[int]:
        return list(self._matcher.compute_ff_tokens())

    def n_valid(self, tokens: Sequence[int]) -> int:
        # Rows of logits without a token may be guessed; to llguidance they are a fault for good.
        known = list(takewhile(self._n_vocab.__gt__, tokens))
        return int(self._matcher.validate_tokens(known))

    @property
    def is_stopped(self) -> bool:
        if self._matcher.is_error():
            raise ConstraintError(_TOO_COMPLEX)
        return bool(self._matcher.is_stopped())


_TOO_COMPLEX = "the grammar became too complex to follow"

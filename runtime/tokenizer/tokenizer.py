"""Text to token ids and back, from a model file's own vocabulary and by llama.cpp's rules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slotmux.runtime.errors import SlotmuxError
from slotmux.runtime.gguf import Metadata
from slotmux.runtime.tokenizer.attributes import HIDDEN, SPECIAL, Attr
from slotmux.runtime.tokenizer.encoder import TextEncoder
from slotmux.runtime.tokenizer.guard import Rendered, SpecialGuard
from slotmux.runtime.tokenizer.kinds import Kind, Stripping, read_kind
from slotmux.runtime.tokenizer.partition import Fragment, SpecialMatcher
from slotmux.runtime.tokenizer.pieces import Pieces, byte_of
from slotmux.runtime.tokenizer.vocab import BOS_KEY, EOS_KEY, TOKENS_KEY, Vocab, read_vocab


class PromptTooLongError(SlotmuxError, ValueError):
    """A text has more tokens than the caller can use; encoding stopped when that was clear."""

    def __init__(self, n_tokens: int, max_tokens: int) -> None:
        super().__init__(f"at least {n_tokens} tokens, at most {max_tokens} fit")
        self.n_tokens = n_tokens
        self.max_tokens = max_tokens


class Tokenizer:
    """One model's tokenizer. Immutable once built, so every method is safe on any thread."""

    def __init__(self, vocab: Vocab, kind: Kind, encoder: TextEncoder) -> None:
        """For ``from_metadata``, which checks what it passes."""
        self.n_vocab = len(vocab.tokens)
        self.bos_id = vocab.bos_id
        self.eos_id = vocab.eos_id
        self.sep_id = vocab.sep_id
        self.eog_ids = vocab.eog_ids
        self.fim = vocab.fim
        self.max_token_bytes = vocab.max_token_bytes
        self.add_bos = kind.add_bos
        self.add_eos = kind.add_eos
        self.add_sep = kind.add_sep
        self.pieces = Pieces(vocab, kind.piece_of)
        self._vocab = vocab
        self._encoder = encoder
        self._may_be_short = kind.drops_text
        self._space_first = kind.add_space_prefix
        self._shielded = _shielded(vocab)
        # A character that is no token may be the unknown token: that is not a user's doing.
        self._unmade = self._shielded - ({vocab.unk_id} if kind.makes_unknown else set())
        self.guard = SpecialGuard(vocab.tokens[i] for i in self._shielded)
        self._matchers = _matchers(vocab, kind.stripping)
        self._template_matcher = _template_matcher(vocab, self._matchers[True], kind)

    @classmethod
    def from_metadata(cls, metadata: Metadata) -> Tokenizer:
        """Build it from the ``tokenizer.ggml.*`` keys. Raises ModelFileError naming the key
        that cannot be used."""
        kind = read_kind(metadata)
        vocab = read_vocab(metadata, kind.default_ids)
        for token_id in vocab.ids_of_kind(Attr.BYTE):
            try:
                byte_of(vocab.tokens[token_id])
            except ValueError as error:
                metadata.refuse(TOKENS_KEY, f"token {token_id}: {error}")
        if kind.add_bos and vocab.bos_id is None and BOS_KEY not in metadata:
            metadata.refuse(BOS_KEY, "the key is missing, and prompts shall begin with it")
        if kind.add_eos and vocab.eos_id is None and EOS_KEY not in metadata:
            metadata.refuse(EOS_KEY, "the key is missing, and prompts shall end with it")
        try:
            return cls(vocab, kind, kind.build_encoder(metadata, vocab))
        except RecursionError:
            metadata.refuse(TOKENS_KEY, "special tokens begin with one another too often")

    def prepare(self) -> None:
        """Make now what the first text would have to wait for: up to a second of a CPU, for much
        of it with the GIL held."""
        self.encode_inside("a")

    def token_text(self, token_id: int) -> str:
        """A token as the vocabulary spells it."""
        return self._vocab.tokens[token_id]

    @property
    def special_ids(self) -> frozenset[int]:
        """Tokens that a text never becomes by itself: control tokens, and those that the model's
        makers defined, but for runs of blanks."""
        return self._shielded

    def is_control(self, token_id: int) -> bool:
        """Whether readers of an output do not see the token (control or unknown)."""
        return bool(self._vocab.attrs[token_id] & int(HIDDEN))

    def token_bytes(self, token_id: int, *, skip_special: bool = False) -> bytes:
        """Bytes that a token stands for; nothing for control tokens if those are skipped.

        Raises IndexError for an id outside the vocabulary."""
        return self.pieces.visible(token_id) if skip_special else self.pieces.shown(token_id)

    def all_token_bytes(self) -> list[bytes]:
        """``token_bytes`` of every token, by id."""
        return self.pieces.all()

    def encode(
        self,
        text: str,
        *,
        add_special: bool = True,
        parse_special: bool = False,
        max_tokens: int | None = None,
    ) -> list[int]:
        """Token ids of ``text``. ``add_special`` adds the BOS and EOS that the model wants;
        ``parse_special`` lets the texts of control tokens be those tokens (user-defined
        tokens always are). Raises PromptTooLongError beyond ``max_tokens``, and ValueError
        for lone surrogates."""
        _check_unicode(text)
        self._check_length(text, max_tokens)
        ids = [self.bos_id] if add_special and self.add_bos and self.bos_id is not None else []
        fragments = self._matchers[parse_special].split(text)
        self._encode_fragments(fragments, ids, max_tokens, shield=False)
        if add_special and self.add_eos and self.eos_id is not None:
            ids.append(self.eos_id)
        return ids

    def encode_inside(self, text: str) -> list[int]:
        """Token ids of plain text that goes on from other text: nothing is put before it, and
        special tokens are not looked for."""
        return [token_id for ids in self._encoder.encode(text) for token_id in ids]

    def encode_rendered(self, rendered: Rendered, *, max_tokens: int | None = None) -> list[int]:
        """Token ids of a chat prompt: special tokens where the template put them, and none in
        what users wrote. BOS is added if the model wants it and the template did not."""
        _check_unicode(rendered.marked)
        self._check_length(rendered.marked, max_tokens)
        mark = rendered.mark
        fragments: list[Fragment] = []
        for fragment in self._template_matcher.split(rendered.marked):
            plain = fragment if isinstance(fragment, int) else fragment.replace(mark, "")
            if plain != "":
                fragments.append(plain)
        ids: list[int] = []
        if self.add_bos and self.bos_id is not None and fragments[:1] != [self.bos_id]:
            ids.append(self.bos_id)
        self._encode_fragments(fragments, ids, max_tokens, shield=True)
        return ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Text of ``ids``, U+FFFD for bytes that are not UTF-8."""
        piece = self.pieces.visible if skip_special else self.pieces.shown
        return b"".join([piece(token_id) for token_id in ids]).decode("utf-8", "replace")

    def _check_length(self, text: str, max_tokens: int | None) -> None:
        if max_tokens is None or self._may_be_short:
            return
        if len(text) // self.max_token_bytes > max_tokens:
            raise PromptTooLongError(len(text) // self.max_token_bytes, max_tokens)

    def _encode_fragments(
        self, fragments: list[Fragment], out: list[int], max_tokens: int | None, *, shield: bool
    ) -> None:
        after_special = True
        for fragment in fragments:
            if isinstance(fragment, int):
                out.append(fragment)
                after_special = True
                continue
            text = " " + fragment if self._space_first and after_special else fragment
            for ids in self._encoder.encode(text):
                out += self._without_special(ids) if shield else ids
                if max_tokens is not None and len(out) > max_tokens:
                    raise PromptTooLongError(len(out), max_tokens)
            after_special = False

    def _without_special(self, ids: list[int]) -> list[int]:
        """``ids`` of plain text with merged-together special tokens in literal pieces."""
        if self._unmade.isdisjoint(ids):
            return ids
        literal: list[int] = []
        for token_id in ids:
            literal += self._literal(token_id) if token_id in self._unmade else [token_id]
        return literal

    def _literal(self, token_id: int) -> list[int]:
        text = self.pieces.shown(token_id).decode("utf-8", "replace")
        if len(text) < 2:
            return [token_id]
        halves = text[: len(text) // 2], text[len(text) // 2 :]
        parts = [ids for half in halves for ids in self._encoder.encode(half)]
        return [i for ids in parts for i in self._without_special(ids)]


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a lone surrogate at character {error.start}") from None


def _shielded(vocab: Vocab) -> frozenset[int]:
    """Special tokens that a chat user's text must never become. Runs of spaces and line ends
    that a vocabulary has as user-defined tokens are plain text."""
    return frozenset(
        token_id
        for token_id in vocab.ids_of_kind(SPECIAL)
        if vocab.tokens[token_id].strip(" ▁\t\r\n")
    )


def _matchers(vocab: Vocab, strips: Stripping) -> tuple[SpecialMatcher, SpecialMatcher]:
    """For parse_special off and on."""
    every = vocab.ids_of_kind(SPECIAL)
    hidden = np.asarray(vocab.attrs) & int(HIDDEN)
    shown = [token_id for token_id in every if not hidden[token_id]]
    return _matcher(vocab, shown, strips), _matcher(vocab, every, strips)


def _template_matcher(vocab: Vocab, every: SpecialMatcher, kind: Kind) -> SpecialMatcher:
    """For rendered templates: a mark cannot be put inside a token of one character, so there
    those are never special."""
    ids = vocab.ids_of_kind(SPECIAL)
    long = [token_id for token_id in ids if len(vocab.tokens[token_id]) > 1]
    return every if len(long) == len(ids) else _matcher(vocab, long, kind.stripping)


def _matcher(vocab: Vocab, ids: list[int], strips: Stripping) -> SpecialMatcher:
    kept = {"<unk>", "<s>", "<|endoftext|>"}  # these keep the space to their right even so
    texts = {vocab.tokens[token_id]: token_id for token_id in ids}
    right = [token_id for text, token_id in texts.items() if text not in kept]
    left = [token_id for text, token_id in texts.items() if text == strips.left]
    return SpecialMatcher(texts, right if strips.right else (), left)

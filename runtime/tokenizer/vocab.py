"""The vocabulary of a model file, checked: texts, kinds and special ids. No algorithm here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slotmux.runtime.gguf import Metadata
from slotmux.runtime.tokenizer import attributes
from slotmux.runtime.tokenizer.attributes import Attr

TOKENS_KEY = "tokenizer.ggml.tokens"
TYPES_KEY = "tokenizer.ggml.token_type"
BOS_KEY = "tokenizer.ggml.bos_token_id"
EOS_KEY = "tokenizer.ggml.eos_token_id"
UNK_KEY = "tokenizer.ggml.unknown_token_id"
MODEL_KEY = "tokenizer.ggml.model"

MAX_TOKEN_BYTES = 1 << 16
_NORMAL_TYPE = 1
_N_TYPES = len(attributes.ATTR_OF_TYPE)


@dataclass(frozen=True, slots=True)
class Vocab:
    """Texts of all tokens with their kinds. ``ids`` maps a text back; do not change it."""

    tokens: list[str]
    ids: dict[str, int]
    attrs: npt.NDArray[np.uint8]
    bos_id: int | None
    eos_id: int | None
    unk_id: int | None
    eog_ids: frozenset[int]
    max_token_bytes: int

    def ids_of_kind(self, kinds: Attr) -> list[int]:
        """Ids, ascending, of the tokens that are of any of ``kinds``."""
        found: list[int] = np.flatnonzero(self.attrs & int(kinds)).tolist()
        return found


def read_vocab(metadata: Metadata, defaults: dict[str, int]) -> Vocab:
    """Read and check the vocabulary. ``defaults`` gives special ids for absent keys.

    Raises ModelFileError for empty, repeated or overlong tokens, wrong lengths and ids out
    of range.
    """
    tokens = metadata.get_strings(TOKENS_KEY)
    if not tokens:
        metadata.refuse(TOKENS_KEY, "the vocabulary is empty")
    ids = dict(zip(tokens, range(len(tokens)), strict=True))
    _check_tokens(metadata, tokens, ids)
    max_token_bytes = _check_lengths(metadata, tokens)
    stored = _special_ids(metadata, len(tokens))
    named = {key: stored.get(key, defaults.get(key)) for key in (BOS_KEY, EOS_KEY, UNK_KEY)}
    for key, token_id in named.items():
        if token_id is not None and token_id >= len(tokens):
            named[key] = None  # a default of the kind of tokenizer that this file is too small for
    resolved = attributes.resolve(_types(metadata, len(tokens)), ids, stored, named[EOS_KEY])
    return Vocab(
        tokens=tokens,
        ids=ids,
        attrs=resolved.attrs,
        bos_id=named[BOS_KEY],
        eos_id=named[EOS_KEY],
        unk_id=named[UNK_KEY],
        eog_ids=resolved.eog_ids,
        max_token_bytes=max_token_bytes,
    )


def _check_tokens(metadata: Metadata, tokens: list[str], ids: dict[str, int]) -> None:
    if "" in ids:
        metadata.refuse(TOKENS_KEY, f"token {tokens.index('')} is empty")
    if len(ids) != len(tokens):
        first = next(i for i, text in enumerate(tokens) if ids[text] != i)
        metadata.refuse(TOKENS_KEY, f"tokens {first} and {ids[tokens[first]]} are the same")


def _check_lengths(metadata: Metadata, tokens: list[str]) -> int:
    longest = max(tokens, key=len)
    if len(longest) > MAX_TOKEN_BYTES:
        index = tokens.index(longest)
        metadata.refuse(TOKENS_KEY, f"token {index} has more than {MAX_TOKEN_BYTES} characters")
    return max(map(len, map(str.encode, tokens)))


def _types(metadata: Metadata, n_tokens: int) -> npt.NDArray[np.integer]:
    if TYPES_KEY not in metadata:
        return np.full(n_tokens, _NORMAL_TYPE, np.int32)
    types = metadata.get_array(TYPES_KEY)
    if types.dtype.kind not in "iu":
        metadata.refuse(TYPES_KEY, f"expected integers, found {types.dtype.name}")
    if len(types) != n_tokens:
        metadata.refuse(TYPES_KEY, f"{len(types)} types for {n_tokens} tokens")
    bad = np.flatnonzero((types < 0) | (types >= _N_TYPES))
    if len(bad):
        metadata.refuse(TYPES_KEY, f"token {bad[0]} has the unknown type {types[bad[0]]}")
    return types


def _special_ids(metadata: Metadata, n_tokens: int) -> dict[str, int]:
    """Special ids that the file names, by key."""
    keys = (BOS_KEY, EOS_KEY, UNK_KEY, attributes.EOT_KEY, attributes.EOM_KEY)
    found: dict[str, int] = {}
    for key in (*keys, *attributes.FIM_KEYS):
        token_id = metadata.get_u32(key, None, high=n_tokens - 1)
        if token_id is not None:
            found[key] = token_id
    return found

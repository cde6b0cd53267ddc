"""The vocabulary of a model file, checked: texts, kinds and special ids. No algorithm here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slotmux.runtime.gguf import Metadata, ModelFileError
from slotmux.runtime.tokenizer import attributes
from slotmux.runtime.tokenizer.attributes import Attr, FimIds

TOKENS_KEY = "tokenizer.ggml.tokens"
SCORES_KEY = "tokenizer.ggml.scores"
TYPES_KEY = "tokenizer.ggml.token_type"
BOS_KEY = "tokenizer.ggml.bos_token_id"
EOS_KEY = "tokenizer.ggml.eos_token_id"
UNK_KEY = "tokenizer.ggml.unknown_token_id"
SEP_KEY = "tokenizer.ggml.seperator_token_id"  # spelled so in files
MODEL_KEY = "tokenizer.ggml.model"
_NAMED_KEYS = (BOS_KEY, EOS_KEY, UNK_KEY, SEP_KEY)

SPACE = "▁"  # how SentencePiece, and what descends from it, spells a space
MAX_TOKEN_BYTES = 1 << 16
_NORMAL_TYPE, _CONTROL_TYPE, _UNUSED_TYPE = 1, 3, 5
_FALCON_ID = 11
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
    sep_id: int | None
    eog_ids: frozenset[int]
    fim: FimIds
    max_token_bytes: int

    def ids_of_kind(self, kinds: Attr) -> list[int]:
        """Ids, ascending, of the tokens that are of any of ``kinds``."""
        found: list[int] = np.flatnonzero(self.attrs & int(kinds)).tolist()
        return found


def read_vocab(metadata: Metadata, defaults: dict[str, int]) -> Vocab:
    """Read and check the vocabulary. ``defaults`` gives special ids for absent keys.

    An empty token keeps its id and is never found in a text. What is wrong with a special id costs
    that id, with a warning. Raises ModelFileError for repeated or overlong tokens and wrong
    lengths.
    """
    tokens = metadata.get_strings(TOKENS_KEY)
    if not tokens:
        metadata.refuse(TOKENS_KEY, "the vocabulary is empty")
    ids = dict(zip(tokens, range(len(tokens)), strict=True))
    has_empty = ids.pop("", None) is not None
    _check_tokens(metadata, tokens, ids, tokens.count("") if has_empty else 0)
    max_token_bytes = _check_lengths(metadata, tokens)
    types = _types(metadata, tokens)
    stored = _special_ids(metadata, tokens, types, defaults)
    named = {key: stored.get(key, defaults.get(key)) for key in _NAMED_KEYS}
    for key, token_id in named.items():
        if token_id is not None and token_id >= len(tokens):
            named[key] = None  # a default of the kind of tokenizer that this file is too small for
    resolved = attributes.resolve(types, ids, stored, named[EOS_KEY])
    return Vocab(
        tokens=tokens,
        ids=ids,
        attrs=resolved.attrs,
        bos_id=named[BOS_KEY],
        eos_id=named[EOS_KEY],
        unk_id=named[UNK_KEY],
        sep_id=named[SEP_KEY],
        eog_ids=resolved.eog_ids,
        fim=resolved.fim,
        max_token_bytes=max_token_bytes,
    )


def read_scores(metadata: Metadata, n_tokens: int) -> npt.NDArray[np.floating]:
    """A number for each token, float64. Raises ModelFileError for missing, too few or non-numeric
    scores."""
    scores = metadata.get_array(SCORES_KEY)
    if scores.dtype.kind not in "fi":
        metadata.refuse(SCORES_KEY, f"expected numbers, found {scores.dtype.name}")
    if len(scores) != n_tokens:
        metadata.refuse(SCORES_KEY, f"{len(scores)} scores for {n_tokens} tokens")
    if np.isnan(scores).any():
        metadata.refuse(SCORES_KEY, "a score is not a number")
    return scores.astype(np.float64)


def _check_tokens(metadata: Metadata, tokens: list[str], ids: dict[str, int], n_empty: int) -> None:
    if n_empty == len(tokens):
        metadata.refuse(TOKENS_KEY, "no token has a text")
    if len(ids) != len(tokens) - n_empty:
        first = next(i for i, text in enumerate(tokens) if text and ids[text] != i)
        metadata.refuse(TOKENS_KEY, f"tokens {first} and {ids[tokens[first]]} are the same")
    if n_empty:
        others = f" (and {n_empty - 1} more)" if n_empty > 1 else ""
        metadata.warn(TOKENS_KEY, f"token {tokens.index('')} is empty{others}: no text has it")


def _check_lengths(metadata: Metadata, tokens: list[str]) -> int:
    longest = max(tokens, key=len)
    if len(longest) > MAX_TOKEN_BYTES:
        index = tokens.index(longest)
        metadata.refuse(TOKENS_KEY, f"token {index} has more than {MAX_TOKEN_BYTES} characters")
    n_bytes = len(longest.encode())
    n_enough = n_bytes // 4  # characters: fewer have no more bytes
    return max(len(text.encode()) for text in tokens if len(text) >= n_enough)


def _types(metadata: Metadata, tokens: list[str]) -> npt.NDArray[np.integer]:
    """A type of each token. Those that do not exist are normal ones; empty tokens are unused."""
    types = np.full(len(tokens), _NORMAL_TYPE, np.int64)
    if TYPES_KEY in metadata:
        stored = metadata.get_array(TYPES_KEY)
        if stored.dtype.kind not in "iu":
            metadata.refuse(TYPES_KEY, f"expected integers, found {stored.dtype.name}")
        if len(stored) != len(tokens):
            metadata.refuse(TYPES_KEY, f"{len(stored)} types for {len(tokens)} tokens")
        is_known = (stored >= 0) & (stored < _N_TYPES)
        types[is_known] = stored[is_known]
        unknown = np.flatnonzero(~is_known)
        if len(unknown):
            first = f"token {unknown[0]} has the unknown type {stored[unknown[0]]}"
            others = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            metadata.warn(TYPES_KEY, f"{first}{others}: taken as normal")
    if "" in tokens:
        types[[not text for text in tokens]] = _UNUSED_TYPE
    return types


def _special_ids(
    metadata: Metadata,
    tokens: list[str],
    types: npt.NDArray[np.integer],
    defaults: dict[str, int],
) -> dict[str, int]:
    """Special ids that the file names, by key; those that it names in vain are the defaults of the
    kind of tokenizer, if it has them."""
    keys = (*_NAMED_KEYS, attributes.EOT_KEY, attributes.EOM_KEY)
    found: dict[str, int] = {}
    for key in (*keys, *attributes.FIM_KEYS):
        try:
            token_id = metadata.get_u32(key, None, high=len(tokens) - 1)
        except ModelFileError as error:
            token_id = _default_id(key, types, defaults)
            used = "no token is" if token_id is None else f"token {token_id} is"
            metadata.warn(key, f"{error.reason}; {used} used instead")
        if token_id is not None:
            found[key] = token_id
    return found


def _default_id(key: str, types: npt.NDArray[np.integer], defaults: dict[str, int]) -> int | None:
    """What llama.cpp takes for a special id out of range: for byte-level BPE Falcon's 11, which
    in any other vocabulary is an ordinary token and would end answers at a comma."""
    token_id = defaults.get(key)
    if token_id is None and key in (BOS_KEY, EOS_KEY):
        is_special = len(types) > _FALCON_ID and types[_FALCON_ID] == _CONTROL_TYPE
        return _FALCON_ID if is_special else None
    return token_id if token_id is not None and token_id < len(types) else None

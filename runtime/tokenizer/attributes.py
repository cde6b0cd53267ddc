"""What kind of token each id is, and which ids end a generation.

Follows llama.cpp: beyond the types stored in the file, some well-known texts are control
tokens or end a generation whatever the file says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
import numpy.typing as npt


class Attr(IntFlag):
    """Kinds of tokens; a token whose stored type is overridden can be of two."""

    NONE = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 4
    USER_DEFINED = 8
    UNUSED = 16
    BYTE = 32


HIDDEN = Attr.CONTROL | Attr.UNKNOWN  # text that a reader of the output does not see
SPECIAL = HIDDEN | Attr.USER_DEFINED  # matched in a text before it is split into words

# Indexed by the file's tokenizer.ggml.token_type (0 to 6).
ATTR_OF_TYPE = np.array(
    [
        Attr.NONE,
        Attr.NORMAL,
        Attr.UNKNOWN,
        Attr.CONTROL,
        Attr.USER_DEFINED,
        Attr.UNUSED,
        Attr.BYTE,
    ],
    np.uint8,
)

_EOG_TEXTS = (
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
)

# Fill-in-the-middle tokens: the file's key, and texts that stand for it when it is absent.
_FIM_ENDING = {
    "tokenizer.ggml.fim_pad_token_id": (
        "<|fim_pad|>",
        "<fim-pad>",
        "<fim_pad>",
        "<PAD>",
        "[PAD]",
    ),
    "tokenizer.ggml.fim_rep_token_id": (
        "<|fim_repo|>",
        "<|repo_name|>",
        "<fim-repo>",
        "<REPO>",
        "<reponame>",
    ),
    "tokenizer.ggml.fim_sep_token_id": ("<|file_sep|>",),
}
_FIM_OTHER = {
    "tokenizer.ggml.fim_pre_token_id": (
        "<|fim_prefix|>",
        "<fim-prefix>",
        "<fim_prefix>",
        "<｜fim▁begin｜>",
        "<PRE>",
        "▁<PRE>",
        "<|code_prefix|>",
        "<|prefix|>",
    ),
    "tokenizer.ggml.fim_suf_token_id": (
        "<|fim_suffix|>",
        "<fim-suffix>",
        "<fim_suffix>",
        "<｜fim▁hole｜>",
        "<SUF>",
        "▁<SUF>",
        "<|code_suffix|>",
        "<|suffix|>",
    ),
    "tokenizer.ggml.fim_mid_token_id": (
        "<|fim_middle|>",
        "<fim-middle>",
        "<fim_middle>",
        "<｜fim▁end｜>",
        "<MID>",
        "▁<MID>",
        "<|code_middle|>",
        "<|middle|>",
    ),
}
FIM_KEYS = (*_FIM_ENDING, *_FIM_OTHER)
_FIM_FIELDS = {
    "tokenizer.ggml.fim_pre_token_id": "prefix",
    "tokenizer.ggml.fim_suf_token_id": "suffix",
    "tokenizer.ggml.fim_mid_token_id": "middle",
    "tokenizer.ggml.fim_rep_token_id": "repository",
    "tokenizer.ggml.fim_sep_token_id": "file",
}
EOT_KEY = "tokenizer.ggml.eot_token_id"
EOM_KEY = "tokenizer.ggml.eom_token_id"

_ALWAYS_SHOWN = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")  # gpt-oss


@dataclass(frozen=True, slots=True)
class FimIds:
    """Tokens of fill-in-the-middle prompts: before, after and instead of what is missing; names of
    a repository and of a file come after the last two. None: the vocabulary has no such token."""

    prefix: int | None = None
    suffix: int | None = None
    middle: int | None = None
    repository: int | None = None
    file: int | None = None


@dataclass(frozen=True, slots=True)
class Attributes:
    """Attr bits of each id, the ids that end a generation, and those of fill-in-the-middle."""

    attrs: npt.NDArray[np.uint8]
    eog_ids: frozenset[int]
    fim: FimIds


def resolve(
    types: npt.NDArray[np.integer],
    ids: Mapping[str, int],
    stored: Mapping[str, int],
    eos_id: int | None,
) -> Attributes:
    """Attributes from the stored types (0 to 6), the ids of texts, and the special ids that
    the file names (``stored``, by key)."""
    attrs = ATTR_OF_TYPE[types]
    eog: set[int] = set()
    fim = _add_fill_in_middle(attrs, eog, ids, stored)
    for text in _EOG_TEXTS:
        if text in ids:
            eog.add(ids[text])
            attrs[ids[text]] |= Attr.CONTROL
    for text in _ALWAYS_SHOWN:
        if text in ids:
            attrs[ids[text]] = Attr.USER_DEFINED
    eog.update(stored[key] for key in (EOT_KEY, EOM_KEY) if key in stored)
    if eos_id is not None:
        eog.add(eos_id)
    _undo_misleading_names(attrs, eog, ids)
    return Attributes(attrs, frozenset(eog), fim)


def _add_fill_in_middle(
    attrs: npt.NDArray[np.uint8], eog: set[int], ids: Mapping[str, int], stored: Mapping[str, int]
) -> FimIds:
    found: dict[str, int] = {}
    for key, texts in (_FIM_ENDING | _FIM_OTHER).items():
        token_id = stored.get(key)
        if token_id is None:
            token_id = next((ids[text] for text in texts if text in ids), None)
            if token_id is None:
                continue
            attrs[token_id] |= Attr.CONTROL
        if key in _FIM_ENDING:
            eog.add(token_id)
        if key in _FIM_FIELDS:
            found[_FIM_FIELDS[key]] = token_id
    return FimIds(**found)


def _undo_misleading_names(
    attrs: npt.NDArray[np.uint8], eog: set[int], ids: Mapping[str, int]
) -> None:
    def ends(*texts: str) -> bool:
        return all(ids.get(text) in eog for text in texts)

    # Harmony and solar-open end a message, not the turn, with <|end|>.
    calls = ends("<|call|>") or ends("<|calls|>")
    if calls and ends("<|end|>") and (ends("<|return|>") or ends("<|flush|>")):
        eog.discard(ids["<|end|>"])
        attrs[ids["<|end|>"]] = Attr.USER_DEFINED
    # Gemma 4 and PLaMo have </s> as an ordinary HTML tag.
    if (ends("<|tool_response>") or ends("<|plamo:eos|>")) and ends("</s>"):
        eog.discard(ids["</s>"])
        attrs[ids["</s>"]] = Attr.NORMAL

"""Prompts that ask a model to fill in what is missing between two texts (fill-in-the-middle).

The layout is llama-server's: prefix, suffix, middle, each behind the token that the model learned
for it, with other files of the project before them. What clients send never becomes a control
token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slotmux.runtime.tokenizer import FimIds
from slotmux.server.http.errors import ApiError, invalid
from slotmux.server.interfaces import TokenizerPort

PROJECT, FILE_NAME = "myproject", "filename"  # as llama-server calls what has no name
_SNIPPET = "\n\n--- snippet ---\n\n"


@dataclass(frozen=True, slots=True)
class ExtraFile:
    """Another file, or a part of one, that is told before the text to fill."""

    text: str
    name: str = "tmp"


def can_fill(fim: FimIds) -> bool:
    """Whether a vocabulary has what a fill-in-the-middle prompt needs."""
    return None not in (fim.prefix, fim.suffix, fim.middle)


def cannot_fill(param: str) -> ApiError:
    """400: the model has not learned to fill in; ``param`` asked for it."""
    message = "The model has no fill-in-the-middle tokens, so nothing can be put before a suffix."
    return invalid(param, message, "unsupported_parameter")


def fim_prompt(
    tokenizer: TokenizerPort, prefix: str, suffix: str, *, max_tokens: int | None = None
) -> list[int]:
    """Token ids that ask for what stands between ``prefix`` and ``suffix``.

    The model ``can_fill``. Raises PromptTooLongError when a part has more than ``max_tokens``.
    """
    head = _plain(tokenizer, prefix, max_tokens)
    return _assemble(tokenizer, head, _plain(tokenizer, suffix, max_tokens))


def infill_prompt(
    tokenizer: TokenizerPort,
    prefix: str,
    suffix: str,
    prompt: Sequence[int],
    extra: Sequence[ExtraFile],
    *,
    n_near: int,
    n_extra: int,
) -> list[int]:
    """Token ids of POST /infill: ``prompt`` stands between the two texts, at the place to fill.

    ``n_near`` tokens at most are around that place, three quarters of them before it: the rest of
    both texts is left out; and at most the last ``n_extra`` of other files. The model ``can_fill``.
    """
    n_before = 3 * (n_near // 4)
    n_after = max(0, n_near // 4 - 2 - len(prompt))
    head = _plain(tokenizer, prefix)[-n_before:] if n_before else []
    tail = _plain(tokenizer, suffix)[:n_after]
    told = _files(tokenizer, extra)
    return [*told[max(0, len(told) - n_extra) :], *_assemble(tokenizer, [*head, *prompt], tail)]


def _assemble(tokenizer: TokenizerPort, head: Sequence[int], tail: Sequence[int]) -> list[int]:
    fim = tokenizer.fim
    assert fim.prefix is not None
    assert fim.suffix is not None
    assert fim.middle is not None
    return [*_begin(tokenizer), fim.prefix, *head, fim.suffix, *tail, fim.middle]


def _begin(tokenizer: TokenizerPort) -> list[int]:
    """The token that the model wants at the beginning, if it wants one."""
    bos = tokenizer.bos_id
    return [bos] if bos is not None and tokenizer.encode("")[:1] == [bos] else []


def _files(tokenizer: TokenizerPort, extra: Sequence[ExtraFile]) -> list[int]:
    fim = tokenizer.fim
    ids: list[int] = []
    if fim.repository is not None:
        ids += [fim.repository, *_plain(tokenizer, f"{PROJECT}\n")]
    for file in extra:
        if fim.file is None:
            ids += _plain(tokenizer, _SNIPPET)
        else:
            ids += [fim.file, *_plain(tokenizer, f"{file.name}\n")]
        ids += _plain(tokenizer, file.text)
    if fim.file is not None:
        ids += [fim.file, *_plain(tokenizer, f"{FILE_NAME}\n")]
    return ids


def _plain(tokenizer: TokenizerPort, text: str, max_tokens: int | None = None) -> list[int]:
    return tokenizer.encode(text, add_special=False, parse_special=False, max_tokens=max_tokens)

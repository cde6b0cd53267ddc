"""Texts to vectors: tokens, their checks, and the engine's answer to each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request as HttpRequest

from slotmux.runtime.engine.request import Request, SamplingParams
from slotmux.runtime.tokenizer import PromptTooLongError
from slotmux.server.answers.prepare import check_ids, client_of, too_long, unset_output
from slotmux.server.answers.stream import Delivery
from slotmux.server.answers.texts.pairs import TextIds
from slotmux.server.http.errors import invalid, not_supported, timed_out
from slotmux.server.http.trace import trace_of
from slotmux.server.process.state import Loaded, ModelInfo, ServerState, Service

Vector = NDArray[np.float32]
TEXTS_AT_ONCE = 32  # tokenized in one go: others have their turn in between
IN_ENGINE = 256  # texts of one request that an encoder has at once
RANK = "rank"


@dataclass(frozen=True, slots=True)
class Vectors:
    """Of each text in order, not normalised; and how many tokens they had together."""

    vectors: list[Vector]
    n_tokens: int


def check_gives_vectors(info: ModelInfo) -> None:
    """Raises ApiError 501 where the model gives none, or gives scores."""
    if info.pooling == RANK:
        raise not_supported("This model ranks documents (POST /v1/rerank); it gives no vectors.")
    if not info.pooling:
        raise not_supported("This model gives no vectors of texts.")


async def tokenized(
    state: ServerState,
    loaded: Loaded,
    texts: Sequence[str | list[int]],
    param: str,
    *,
    truncate: bool = False,
) -> list[TextIds]:
    """Tokens of each text, or as they came. ``truncate``: what is too long is cut; else ApiError
    400, which names the text."""
    names = [f"{param}[{i}]" if len(texts) > 1 else param for i in range(len(texts))]
    named = list(zip(texts, names, strict=True))
    found: list[TextIds] = []
    for begin in range(0, len(texts), TEXTS_AT_ONCE):
        some = named[begin : begin + TEXTS_AT_ONCE]
        found += await state.off_loop(_encode_some, loaded, some, truncate)
    return found


def _encode_some(
    loaded: Loaded, texts: Sequence[tuple[str | list[int], str]], truncate: bool
) -> list[TextIds]:
    return [TextIds(_ids_of(loaded, text, name, truncate)) for text, name in texts]


def _ids_of(loaded: Loaded, text: str | list[int], param: str, truncate: bool) -> list[int]:
    n_ctx = loaded.info.n_ctx
    if isinstance(text, str):
        limit = None if truncate else n_ctx
        try:
            ids = loaded.tokenizer.encode(text, parse_special=True, max_tokens=limit)
        except PromptTooLongError as error:
            raise too_long(param, n_ctx, error.n_tokens, "at least ") from None
    else:
        check_ids(text, loaded.n_vocab, param)
        ids = text
    if not ids:
        raise invalid(param, f"Invalid '{param}': the text is empty.")
    return fitted(ids, n_ctx, param, truncate=truncate)


def fitted(ids: list[int], n_ctx: int, param: str, *, truncate: bool = False) -> list[int]:
    """A text's tokens, cut before the last one where they are too many: that ends the text. Raises
    ApiError 400 where they may not be cut."""
    if len(ids) <= n_ctx:
        return ids
    if not truncate:
        raise too_long(param, n_ctx, len(ids))
    return [*ids[: n_ctx - 1], ids[-1]]


async def vectors_of(
    http: HttpRequest, state: ServerState, service: Service, texts: Sequence[TextIds],
    priority: int = 0,
) -> Vectors:  # fmt: skip
    """What the engine makes of them. Raises ApiError."""
    requests = _requests(http, state, service.loaded, texts, priority)
    info = service.loaded.info
    generation = service.intake.start(requests, IN_ENGINE if not info.n_slots else 2 * info.n_slots)
    delivery = Delivery(http, generation, state.settings)
    found: list[Vector | None] = [None] * len(texts)
    n_left = len(texts)
    try:
        while n_left:
            for index, output in await generation.next():
                if output.vector is not None:
                    found[index] = output.vector
                n_left -= output.finish_reason is not None
                if output.finish_reason is not None and found[index] is None:
                    raise timed_out("not all texts had their turn within --request-timeout")
    finally:
        delivery.close()
    vectors = [vector for vector in found if vector is not None]
    return Vectors(vectors, sum(len(text.ids) for text in texts))


def _requests(
    http: HttpRequest, state: ServerState, loaded: Loaded, texts: Sequence[TextIds], priority: int
) -> list[Request]:
    trace = trace_of(http)
    sampling, client = SamplingParams(), client_of(state, trace)
    return [
        Request(
            prompt=text.ids,
            sampling=sampling,
            on_output=unset_output,
            max_tokens=0,
            wants_vector=True,
            n_first=text.n_first,
            # Only of models with slots: a text's beginning may be another's.
            cache_salt=f"{trace.key}/",
            # Whose turn it is goes by this: a client's own name must not get it more turns.
            label=f"{trace.request_id}/{trace.number}",
            client=client,
            priority=priority,
            n_together=len(texts),
            is_first=index == 0,
        )
        for index, text in enumerate(texts)
    ]


def normalised(vector: Vector, how: int = 2, n: int = 0) -> Vector:
    """A vector's first ``n`` numbers (0: all), divided by their size. ``how``, as llama.cpp's
    ``embd_normalize``: -1 not at all, 0 so that the largest is 32760, 2 by Euclid's norm, else by
    that of this power."""
    wide = (vector[..., :n] if n else vector).astype(np.float64)
    if how < 0:
        return wide.astype(np.float32)
    if how == 0:
        size = np.abs(wide).max(axis=-1, keepdims=True) / 32760.0
    elif how == 2:
        size = np.sqrt((wide * wide).sum(axis=-1, keepdims=True))
    else:
        size = (np.abs(wide) ** how).sum(axis=-1, keepdims=True) ** (1.0 / how)
    divided: Vector = np.divide(wide, size, out=np.zeros_like(wide), where=size > 0).astype(
        np.float32
    )
    return divided


def check_dimensions(dimensions: int | None, info: ModelInfo) -> int:
    """How many numbers of a vector are wanted; 0: all. Raises ApiError 400."""
    if dimensions is None:
        return 0
    if dimensions > info.n_vector:
        raise invalid(
            "dimensions", f"Invalid 'dimensions': the model's vectors have {info.n_vector}."
        )
    return dimensions

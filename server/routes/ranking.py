"""POST /v1/rerank and its other names (Jina, Cohere, llama-server), and /v1/score (vLLM)."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.answers.prepare import served_name
from slotmux.server.answers.texts.pairs import TextIds
from slotmux.server.answers.texts.vectors import (
    RANK,
    Vector,
    check_gives_vectors,
    normalised,
    tokenized,
    vectors_of,
)
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import invalid, json_response
from slotmux.server.http.json_body import read_json
from slotmux.server.http.shapes import llama_body
from slotmux.server.openapi.operation import Operation
from slotmux.server.openapi.vectors import Ranking, Scores
from slotmux.server.process.state import Loaded, ModelInfo, Service, state_of
from slotmux.server.schemas.base import validate
from slotmux.server.schemas.embeddings import RerankRequest, ScoreRequest

endpoints = Endpoints()


@endpoints.post("/rerank", "/reranking", told=Operation(Ranking, RerankRequest), shape=llama_body)
@endpoints.post("/v1/rerank", "/v1/reranking", "/v2/rerank", told=Operation(Ranking, RerankRequest))
async def rerank(request: Request) -> Response:
    """Documents by how well they answer a query, best first: by the model's own score of 0 to 1,
    or, of a model that gives vectors, by the cosine of query and document."""
    state = state_of(request)
    service = state.ready()
    body = await read_json(request, state.settings.body_timeout)
    _check_scores(service.loaded.info)
    params = validate(RerankRequest, body)
    name = served_name(params.model, service.loaded.info)
    texts = [doc if isinstance(doc, str) else doc.text for doc in params.documents]
    pairs = [(params.query, text) for text in texts]
    scores, n_tokens = await _scores(
        request, service, pairs, ("query", "documents"), params.priority or 0,
        is_raw=bool(params.raw_scores),
    )  # fmt: skip
    order = sorted(range(len(texts)), key=lambda i: (-scores[i], i))[: params.top_n]
    results: list[dict[str, Any]] = []
    for index in order:
        told: dict[str, Any] = {"index": index, "relevance_score": scores[index]}
        if params.return_documents:
            told["document"] = {"text": texts[index]}
        results.append(told)
    return json_response(
        {
            "id": f"rerank-{uuid.uuid4().hex}",
            "object": "list",
            "model": name,
            "results": results,
            "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
        }
    )


@endpoints.post("/v1/score", "/score", told=Operation(Scores, ScoreRequest))
async def score(request: Request) -> Response:
    """One text with many, or pairs of two lists: as /v1/rerank scores them, in their order."""
    state = state_of(request)
    service = state.ready()
    body = await read_json(request, state.settings.body_timeout)
    _check_scores(service.loaded.info)
    params = validate(ScoreRequest, body)
    name = served_name(params.model, service.loaded.info)
    ones, others = params.text_1, params.text_2
    if len(ones) == 1:
        ones = ones * len(others)
    if len(ones) != len(others):
        message = "Invalid 'text_2': as many texts as in 'text_1' are needed, or one there."
        raise invalid("text_2", message)
    scores, n_tokens = await _scores(
        request, service, list(zip(ones, others, strict=True)), ("text_1", "text_2"),
        params.priority or 0,
    )  # fmt: skip
    return json_response(
        {
            "id": f"score-{uuid.uuid4().hex}",
            "object": "list",
            "created": int(time.time()),
            "model": name,
            "data": [{"object": "score", "index": i, "score": s} for i, s in enumerate(scores)],
            "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
        }
    )


def _check_scores(info: ModelInfo) -> None:
    """Raises ApiError where the model neither ranks nor gives a vector of a text."""
    if info.pooling != RANK:
        check_gives_vectors(info)
    if info.pooling == "none":
        raise invalid("model", "This model is served without pooling.", "no_pooling")


async def _scores(
    request: Request, service: Service, pairs: Sequence[tuple[str, str]], names: tuple[str, str],
    priority: int, *, is_raw: bool = False,
) -> tuple[list[float], int]:  # fmt: skip
    """Of each pair, and the tokens that were read."""
    state, loaded = state_of(request), service.loaded
    if loaded.info.pooling == RANK:
        texts = await state.off_loop(_pairs_as_texts, loaded, pairs, names[1])
        found = await vectors_of(request, state, service, texts, priority)
        return [_own_score(vector, is_raw=is_raw) for vector in found.vectors], found.n_tokens
    # A text that stands in several pairs is read once.
    ones, others = ([*dict.fromkeys(pair[side] for pair in pairs)] for side in (0, 1))
    texts = await tokenized(state, loaded, ones, names[0])
    texts += await tokenized(state, loaded, others, names[1])
    found = await vectors_of(request, state, service, texts, priority)
    units = [normalised(vector).astype(np.float64) for vector in found.vectors]
    of_one = dict(zip(ones, units, strict=False))
    of_other = dict(zip(others, units[len(ones) :], strict=True))
    cosines = [float((of_one[a] * of_other[b]).sum()) for a, b in pairs]
    return cosines, found.n_tokens


def _pairs_as_texts(loaded: Loaded, pairs: Sequence[tuple[str, str]], param: str) -> list[TextIds]:
    n_ctx, form = loaded.info.n_ctx, loaded.pairs
    names = [f"{param}[{i}]" if len(pairs) > 1 else param for i in range(len(pairs))]
    return [
        form.ids(loaded.tokenizer, query, document, n_ctx, name)
        for (query, document), name in zip(pairs, names, strict=True)
    ]


def _own_score(logits: Vector, *, is_raw: bool) -> float:
    """One logit: its logistic function; several: the first one's share in their softmax."""
    values = logits.astype(np.float64)
    if is_raw:
        return float(values[0])
    if len(values) == 1:
        return 1.0 / (1.0 + math.exp(-min(max(float(values[0]), -700.0), 700.0)))
    terms = np.exp(values - values.max())
    return float(terms[0] / terms.sum())

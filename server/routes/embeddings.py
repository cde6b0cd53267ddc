"""POST /v1/embeddings, as OpenAI has it."""

from __future__ import annotations

import base64
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.answers.prepare import served_name
from slotmux.server.answers.texts.vectors import (
    Vectors,
    check_dimensions,
    check_gives_vectors,
    normalised,
    tokenized,
    vectors_of,
)
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import invalid
from slotmux.server.http.json_body import read_json
from slotmux.server.openapi.operation import Operation
from slotmux.server.openapi.vectors import Embeddings
from slotmux.server.process.state import state_of
from slotmux.server.schemas.base import validate
from slotmux.server.schemas.embeddings import EmbeddingRequest, as_texts

endpoints = Endpoints()
EUCLID = 2


@endpoints.post("/v1/embeddings", told=Operation(Embeddings, EmbeddingRequest))
async def create_embeddings(request: Request) -> Response:
    """A vector of each text, of length 1 unless ``embd_normalize`` says otherwise. ``dimensions``
    cuts it before."""
    state = state_of(request)
    service = state.ready()
    loaded = service.loaded
    body = await read_json(request, state.settings.body_timeout)
    check_gives_vectors(loaded.info)
    params = validate(EmbeddingRequest, body)
    name = served_name(params.model, loaded.info)
    if loaded.info.pooling == "none":
        message = "This model is served without pooling; POST /embeddings gives every token's."
        raise invalid("model", message, "no_pooling")
    n = check_dimensions(params.dimensions, loaded.info)
    texts = await tokenized(state, loaded, as_texts(params.input), "input")
    found = await vectors_of(request, state, service, texts, params.priority or 0)
    how = EUCLID if params.embd_normalize is None else params.embd_normalize
    is_base64 = params.encoding_format == "base64"
    told = await state.off_loop(_worded, found, name, how, n, is_base64=is_base64)
    return Response(told, media_type="application/json")


def _worded(found: Vectors, model: str, how: int, n: int, *, is_base64: bool) -> bytes:
    """The body; of a thousand texts it takes some time."""
    data: list[dict[str, Any]] = []
    for index, raw in enumerate(found.vectors):
        vector = normalised(raw, how, n)
        told = base64.b64encode(vector.astype("<f4").tobytes()).decode() if is_base64 else vector
        data.append({"object": "embedding", "index": index, "embedding": told})
    usage = {"prompt_tokens": found.n_tokens, "total_tokens": found.n_tokens}
    body = {"object": "list", "model": model, "data": data, "usage": usage}
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)

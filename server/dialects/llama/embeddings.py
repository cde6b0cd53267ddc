"""POST /embedding and /embeddings, llama-server's own."""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.answers.prepare import served_name
from slotmux.server.answers.texts.vectors import (
    Vectors,
    check_gives_vectors,
    normalised,
    tokenized,
    vectors_of,
)
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import invalid
from slotmux.server.http.json_body import read_json
from slotmux.server.http.shapes import llama_body
from slotmux.server.openapi.operation import Operation
from slotmux.server.openapi.vectors import NativeEmbedding
from slotmux.server.process.state import state_of
from slotmux.server.schemas.base import validate
from slotmux.server.schemas.embeddings import NativeEmbeddingRequest, as_texts

endpoints = Endpoints(llama_body)


@endpoints.post(
    "/embedding", "/embeddings", told=Operation(list[NativeEmbedding], NativeEmbeddingRequest)
)
async def native_embeddings(request: Request) -> Response:
    """A vector of each text; of a model without pooling, one of each of its tokens, as they are."""
    state = state_of(request)
    service = state.ready()
    loaded = service.loaded
    body = await read_json(request, state.settings.body_timeout)
    check_gives_vectors(loaded.info)
    params = validate(NativeEmbeddingRequest, body)
    served_name(params.model, loaded.info)
    param, given = ("content", params.content) if params.input is None else ("input", params.input)
    if given is None:
        message = "Missing required parameter: 'content'."
        raise invalid("content", message, "missing_required_parameter")
    texts = await tokenized(state, loaded, as_texts(given), param)
    found = await vectors_of(request, state, service, texts)
    how = params.embd_normalize
    if how is None:
        how = -1 if loaded.info.pooling == "none" else 2
    return Response(await state.off_loop(_worded, found, how), media_type="application/json")


def _worded(found: Vectors, how: int) -> bytes:
    data = []
    for index, raw in enumerate(found.vectors):
        vector = normalised(raw, how)
        rows = vector if vector.ndim == 2 else vector[None]
        data.append({"index": index, "embedding": rows})
    return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)

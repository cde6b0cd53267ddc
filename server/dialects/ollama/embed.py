"""POST /api/embed and /api/embeddings."""

from __future__ import annotations

import time
from typing import Annotated, Any, ClassVar

import orjson
from pydantic import Field
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
from slotmux.server.dialects.chat_path import read_body
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import invalid
from slotmux.server.http.shapes import ollama_body
from slotmux.server.openapi.operation import Operation
from slotmux.server.openapi.vectors import OllamaEmbedding, OllamaEmbeddings
from slotmux.server.process.state import ServerState, Service, state_of
from slotmux.server.schemas.base import StrictModel, validate
from slotmux.server.schemas.embeddings import Texts, as_texts
from slotmux.server.schemas.generation import Label
from slotmux.server.schemas.parameters import Place

endpoints = Endpoints(ollama_body)


class OllamaEmbed(StrictModel):
    """Body of POST /api/embed."""

    place: ClassVar[Place | None] = None
    model: Label
    input: Texts
    truncate: bool | None = None  # null: yes
    dimensions: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    # Advice: the model stays loaded, and how it runs was decided when the server was started.
    keep_alive: str | int | float | None = None
    options: dict[str, Any] | None = None


class OllamaPrompt(StrictModel):
    """Body of POST /api/embeddings, the older of the two."""

    place: ClassVar[Place | None] = None
    model: Label
    prompt: str
    keep_alive: str | int | float | None = None
    options: dict[str, Any] | None = None


@endpoints.post("/api/embed", told=Operation(OllamaEmbeddings, OllamaEmbed))
async def embed(request: Request) -> Response:
    """A vector of length 1 of each text; what is too long is cut, unless ``truncate`` is false."""
    begin = time.monotonic()
    given = await read_body(request)
    state, service = _served(request)
    params = validate(OllamaEmbed, given)
    name = served_name(params.model.removesuffix(":latest"), service.loaded.info)
    n = check_dimensions(params.dimensions, service.loaded.info)
    texts = as_texts(params.input)
    is_cut = params.truncate is not False
    ids = await tokenized(state, service.loaded, texts, "input", truncate=is_cut)
    found = await vectors_of(request, state, service, ids)
    body = await state.off_loop(_worded, found, name, n, begin)
    return Response(body, media_type="application/json")


@endpoints.post("/api/embeddings", told=Operation(OllamaEmbedding, OllamaPrompt))
async def embeddings(request: Request) -> Response:
    """One text's vector, as the model gives it."""
    given = await read_body(request)
    state, service = _served(request)
    params = validate(OllamaPrompt, given)
    served_name(params.model.removesuffix(":latest"), service.loaded.info)
    ids = await tokenized(state, service.loaded, [params.prompt], "prompt", truncate=True)
    found = await vectors_of(request, state, service, ids)
    told = orjson.dumps({"embedding": found.vectors[0]}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(told, media_type="application/json")


def _served(request: Request) -> tuple[ServerState, Service]:
    state = state_of(request)
    service = state.ready()
    check_gives_vectors(service.loaded.info)
    if service.loaded.info.pooling == "none":
        raise invalid("model", "This model is served without pooling.", "no_pooling")
    return state, service


def _worded(found: Vectors, model: str, n: int, begin: float) -> bytes:
    told = {
        "model": model,
        "embeddings": [normalised(vector, n=n) for vector in found.vectors],
        "total_duration": int((time.monotonic() - begin) * 1e9),
        "load_duration": 0,
        "prompt_eval_count": found.n_tokens,
    }
    return orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)

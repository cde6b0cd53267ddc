"""POST /v1/responses, and what can be asked of those that were kept."""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.answers.stream import respond
from slotmux.server.dialects.blocks import only, text_at
from slotmux.server.dialects.chat_path import begin_turn, chat_params, count_tokens, read_body
from slotmux.server.dialects.responses.items import input_items
from slotmux.server.dialects.responses.response import Wording
from slotmux.server.dialects.responses.schema import InputRequest, ResponsesRequest, names_of
from slotmux.server.dialects.responses.store import Kept, ResponseStore
from slotmux.server.dialects.responses.tools import chat_tools
from slotmux.server.dialects.responses.writer import ResponseWriter
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import invalid, json_response
from slotmux.server.http.trace import trace_of
from slotmux.server.openapi.llama import InputTokens
from slotmux.server.openapi.operation import REFUSED, Operation
from slotmux.server.openapi.responses import (
    DeletedResponse,
    ItemList,
    ResponseEvent,
    ResponseObject,
)
from slotmux.server.process.state import state_of
from slotmux.server.schemas.base import validate

endpoints = Endpoints()
_PATH = "/v1/responses/{response_id}"
_ORDER = {"order": {"enum": ["asc", "desc"], "default": "desc"}}


@endpoints.post("/v1/responses", told=Operation(ResponseObject, ResponsesRequest, ResponseEvent))
async def create_response(request: Request) -> Response:
    """Answers items."""
    params = validate(ResponsesRequest, await read_body(request))
    own = _own(request, params)
    history = _history(request, params)
    body = params.chat_body([*history, *own])
    names = names_of(params)
    turn = await begin_turn(request, chat_params(body, names), names)
    wording = Wording(params, turn, chat_tools(params.tools or [])[1])
    writer = ResponseWriter(wording, partial(_keep, request, params, history, own))
    settings = state_of(request).settings
    return await respond(request, turn.generation, writer, settings, stream=bool(params.stream))


@endpoints.post("/v1/responses/input_tokens", told=Operation(InputTokens, InputRequest))
async def count_input_tokens(request: Request) -> Response:
    """How many tokens a prompt has; nothing is generated."""
    params = validate(InputRequest, await read_body(request))
    items = [*_history(request, params), *_own(request, params)]
    body = params.chat_body(items)
    names = names_of(params)
    n_tokens = await count_tokens(request, chat_params(body, names), names)
    return json_response({"object": "response.input_tokens", "input_tokens": n_tokens})


@endpoints.get(_PATH, told=Operation(ResponseObject))
async def get_response(request: Request, response_id: str) -> Response:
    """One that was kept."""
    kept = _store(request).get(response_id, trace_of(request).key)
    return Response(kept.response, media_type="application/json")


@endpoints.add(["DELETE"], _PATH, told=Operation(DeletedResponse))
async def delete_response(request: Request, response_id: str) -> Response:
    """Forgets one."""
    _store(request).delete(response_id, trace_of(request).key)
    return json_response({"id": response_id, "object": "response", "deleted": True})


@endpoints.get(_PATH + "/input_items", told=Operation(ItemList, query=_ORDER))
async def list_input_items(request: Request, response_id: str) -> Response:
    """The input that led to one, the last item first as OpenAI lists them."""
    kept = _store(request).get(response_id, trace_of(request).key)
    order = request.query_params.get("order", "desc")
    if order not in ("asc", "desc"):
        raise invalid("order", "Invalid 'order': should be 'asc' or 'desc'.")
    items: list[dict[str, Any]] = orjson.loads(kept.history) + orjson.loads(kept.items)
    data = [{"id": f"item_{index}", "type": "message"} | item for index, item in enumerate(items)]
    if order == "desc":
        data.reverse()
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
    return json_response({"object": "list", "data": data, "has_more": False} | ends)


@endpoints.post(_PATH + "/cancel", told=REFUSED)
async def cancel_response(request: Request, response_id: str) -> Response:
    """Refused: what is kept has ended. A running one is ended by closing its connection."""
    _store(request).get(response_id, trace_of(request).key)
    raise invalid("response_id", "Only responses that run in the background can be cancelled.")


def _store(request: Request) -> ResponseStore:
    state_of(request).ready()
    store: ResponseStore | None = getattr(request.app.state, "responses", None)
    if store is None:
        store = request.app.state.responses = ResponseStore()
    return store


def _own(request: Request, params: InputRequest) -> list[dict[str, Any]]:
    """The items of the input, with those in place that it only refers to. Raises ApiError 400."""
    key, items = trace_of(request).key, []
    for index, item in enumerate(input_items(params.input)):
        if item.get("type") == "item_reference":
            path = f"input[{index}]"
            only(item, ("type", "id"), path)
            item = _store(request).item(text_at(item, "id", path), key, f"{path}.id")
        items.append(item)
    return items


def _history(request: Request, params: InputRequest) -> list[dict[str, Any]]:
    """The items of the conversation that is continued. Raises ApiError 400."""
    before = params.previous_response_id
    if before is None:
        return []
    key = trace_of(request).key
    return _store(request).get(before, key, "previous_response_id").conversation()


def _keep(
    request: Request,
    params: ResponsesRequest,
    history: list[dict[str, Any]],
    own: list[dict[str, Any]],
    response: dict[str, Any],
) -> None:
    if params.is_stored:
        ids = tuple(item["id"] for item in response["output"])
        kept = Kept(
            key=trace_of(request).key,
            response=orjson.dumps(response),
            history=orjson.dumps(history),
            items=orjson.dumps(own),
            item_ids=ids,
        )
        _store(request).put(response["id"], kept)

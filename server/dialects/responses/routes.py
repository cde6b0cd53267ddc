"""POST /v1/responses, and what can be asked of those that were kept."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.answers.stream import respond
from slotmux.server.dialects.blocks import only, text_at
from slotmux.server.dialects.chat_path import begin_turn, chat_params, count_tokens, read_body
from slotmux.server.dialects.responses.background import BackgroundRun, Followed
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
from slotmux.server.openapi.operation import Operation
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
_FOLLOWING = {
    "stream": {"type": "boolean", "default": False},
    "starting_after": {"type": "integer", "minimum": 0},
}
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
    if params.background:
        key = trace_of(request).key
        run = BackgroundRun(writer, settings, key, keeps_events=bool(params.stream))
        _store(request).begin(run)
        return _followed(request, run, 0) if params.stream else json_response(run.told())
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


@endpoints.get(_PATH, told=Operation(ResponseObject, chunk=ResponseEvent, query=_FOLLOWING))
async def get_response(request: Request, response_id: str) -> Response:
    """One that was kept, or that runs in the background; its events, if it was made with them."""
    store, key = _store(request), trace_of(request).key
    run, after = store.run(response_id, key), _event_after(request)
    if after is not None:
        if run is None or not run.keeps_events:
            what = "Only responses made with 'background' and 'stream' have events."
            raise invalid("stream", what)
        return _followed(request, run, after)
    if run is not None and not run.is_over:
        return json_response(run.told())
    return Response(store.get(response_id, key).response, media_type="application/json")


@endpoints.add(["DELETE"], _PATH, told=Operation(DeletedResponse))
async def delete_response(request: Request, response_id: str) -> Response:
    """Forgets one; if it runs in the background, ends it first."""
    store, key = _store(request), trace_of(request).key
    run = store.run(response_id, key)
    if run is not None:
        await run.cancel()
    store.delete(response_id, key)
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


@endpoints.post(_PATH + "/cancel", told=Operation(ResponseObject))
async def cancel_response(request: Request, response_id: str) -> Response:
    """Ends one that runs in the background; one that has ended stays what it is."""
    store, key = _store(request), trace_of(request).key
    run = store.run(response_id, key)
    if run is not None:
        await run.cancel()
    kept = store.get(response_id, key).response
    if not orjson.loads(kept)["background"]:
        raise invalid("response_id", "Only responses that run in the background can be cancelled.")
    return Response(kept, media_type="application/json")


def _followed(request: Request, run: BackgroundRun, first: int) -> Followed:
    return Followed(run, first, state_of(request).settings.sse_ping_interval)


def _event_after(request: Request) -> int | None:
    """From which event on a stream is wanted; None: none is. Raises ApiError 400."""
    query = request.query_params
    asked, after = query.get("stream", "false"), query.get("starting_after", "-1")
    if asked not in ("true", "false"):
        raise invalid("stream", "Invalid 'stream': should be 'true' or 'false'.")
    if not re.fullmatch(r"-1|[0-9]{1,9}", after):
        raise invalid("starting_after", "Invalid 'starting_after': should be a whole number.")
    return int(after) + 1 if asked == "true" else None


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

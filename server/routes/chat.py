"""POST /v1/chat/completions and /apply-template."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.answers.answer import Answer
from slotmux.server.answers.chunks import ChunkWriter
from slotmux.server.answers.logprobs import ChatLogprobs
from slotmux.server.answers.prepare import check_chat_size, check_model, render
from slotmux.server.answers.prompt_scores import PromptScores
from slotmux.server.answers.stream import respond
from slotmux.server.answers.turn import chat_turn
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import json_response
from slotmux.server.http.json_body import read_json
from slotmux.server.http.trace import trace_of
from slotmux.server.openapi import answers
from slotmux.server.openapi.operation import Operation
from slotmux.server.process.state import state_of
from slotmux.server.schemas.base import validate
from slotmux.server.schemas.chat import ChatRequest

endpoints = Endpoints()


@endpoints.post(
    "/v1/chat/completions",
    "/chat/completions",
    told=Operation(answers.ChatCompletion, ChatRequest, answers.ChatChunk),
)
async def create_chat_completion(request: Request) -> Response:
    """Answers a conversation."""
    state = state_of(request)
    service = state.ready()
    params = validate(ChatRequest, await read_json(request, state.settings.body_timeout))
    loaded = service.loaded
    model = check_model(params, loaded.info)
    turn = await chat_turn(state, loaded, params, trace_of(request))
    n_top = params.n_logprobs
    answer = Answer(
        "chat",
        model,
        partial(ChatLogprobs, loaded.tokenizer, n_top) if n_top >= 0 else None,
        [turn.ids],
        params.n or 1,
        with_token_ids=bool(params.return_token_ids),
        with_usage_chunk=params.wants_usage_chunk,
        new_reader=turn.new_reader,
        as_function_call=params.tool_wish.as_function_call,
        has_continuous_usage=params.has_continuous_usage,
        scores=None
        if params.prompt_logprobs is None
        else PromptScores(loaded.tokenizer, [turn.ids], n_told=params.prompt_logprobs),
    )
    generation = service.intake.start(turn.requests)
    writer = ChunkWriter(answer)
    return await respond(request, generation, writer, state.settings, stream=params.is_streamed)


@endpoints.post("/apply-template", told=Operation(answers.Prompt, ChatRequest))
async def apply_template(request: Request) -> Response:
    """The text that a chat's messages become; whatever else a chat may say is accepted."""
    state = state_of(request)
    loaded = state.ready().loaded
    params = validate(ChatRequest, await read_json(request, state.settings.body_timeout))
    check_chat_size(loaded, params)
    rendered = await state.off_loop(render, loaded, params)
    return json_response({"prompt": rendered.text})

"""POST /completion, /completions and /infill."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.answers.prepare import build_requests, check_model
from slotmux.server.answers.stream import respond
from slotmux.server.dialects.llama.infill import check_model_fills, infill_ids
from slotmux.server.dialects.llama.prompts import encode_prompts, read_prompts
from slotmux.server.dialects.llama.schema import (
    InfillOptions,
    NativeOptions,
    native_params,
    split,
)
from slotmux.server.dialects.llama.writer import NativeAnswer, NativeWriter
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import invalid
from slotmux.server.http.json_body import read_json
from slotmux.server.http.shapes import llama_body
from slotmux.server.http.trace import trace_of
from slotmux.server.openapi import llama as answers
from slotmux.server.openapi.operation import Body, Operation
from slotmux.server.process.state import ServerState, state_of
from slotmux.server.schemas.base import validate
from slotmux.server.schemas.completion import CompletionRequest

endpoints = Endpoints(llama_body)

_PART: dict[str, Any] = {"type": ["string", "integer"]}
_ONE_PROMPT = {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART, "minItems": 1}]}
_PROMPT = {
    "description": "A text, an array of token ids and texts, or an array of these.",
    "anyOf": [*_ONE_PROMPT["anyOf"], {"type": "object"}, {"type": "array", "minItems": 1}],
}
_NATIVE = Body(
    "NativeRequest",
    (CompletionRequest, NativeOptions),
    {"prompt": _PROMPT, "logprobs": {"enum": [None]}},
    ("prompt",),
)
_INFILL = Body(
    "InfillRequest",
    (CompletionRequest, NativeOptions, InfillOptions),
    {"prompt": {"type": ["string", "null"]}, "logprobs": {"enum": [None]}},
    ("input_prefix", "input_suffix"),
)


@endpoints.post(
    "/completion",
    "/completions",
    told=Operation(
        answers.NativeAnswer | list[answers.NativeAnswer], _NATIVE, answers.NativeAnswer
    ),
)
async def native_completion(request: Request) -> Response:
    """Continues prompts, as llama-server's own clients ask for it."""
    state = state_of(request)
    loaded = state.ready().loaded
    body = await read_json(request, state.settings.body_timeout)
    if "prompt" not in body:
        raise invalid(
            "prompt", "Missing required parameter: 'prompt'.", "missing_required_parameter"
        )
    prompts, are_many = read_prompts(body.pop("prompt"))
    options, params = _read(body, state)
    ids = await encode_prompts(state, loaded, prompts)
    return await _answer(request, options, params, ids, is_array=are_many)


@endpoints.post("/infill", told=Operation(answers.NativeAnswer, _INFILL, answers.NativeAnswer))
async def infill(request: Request) -> Response:
    """Fills a gap between a prefix and a suffix."""
    state = state_of(request)
    loaded = state.ready().loaded
    body = await read_json(request, state.settings.body_timeout)
    check_model_fills(loaded.tokenizer.fim)
    own, rest = split(body, InfillOptions)
    gap = validate(InfillOptions, own | {"input_extra": _known_extra(own.get("input_extra"))})
    prompts, are_many = read_prompts(rest.pop("prompt", None) or "")
    if are_many:
        raise invalid("prompt", "Invalid 'prompt': should be one text.", "invalid_type")
    options, params = _read(rest, state)
    ids = await state.off_loop(infill_ids, loaded, gap, prompts[0], params.max_tokens or -1)
    return await _answer(request, options, params, [ids], is_array=False)


def _known_extra(value: Any) -> Any:
    """Chunks without what editors add to them, such as the time they were taken."""
    if not isinstance(value, list):
        return value
    known = ("filename", "text")
    return [
        {name: chunk[name] for name in known if name in chunk} if isinstance(chunk, dict) else chunk
        for chunk in value
    ]


def _read(body: dict[str, Any], state: ServerState) -> tuple[NativeOptions, CompletionRequest]:
    own, rest = split(body, NativeOptions)
    if own.get("n_predict") is None and type(rest.get("max_tokens")) is int:
        own["n_predict"] = rest["max_tokens"]
    options = validate(NativeOptions, own)
    return options, native_params(options, rest, state.settings.n_predict)


async def _answer(
    request: Request,
    options: NativeOptions,
    params: CompletionRequest,
    prompts: list[list[int]],
    *,
    is_array: bool,
) -> Response:
    state = state_of(request)
    service = state.ready()
    loaded = service.loaded
    model = check_model(params, loaded.info)
    requests = await build_requests(
        state, loaded, params, prompts, params.n_logprobs, trace_of(request)
    )
    decode = loaded.tokenizer.decode
    answer = NativeAnswer(
        model=model,
        tokenizer=loaded.tokenizer,
        requests=requests,
        texts=[await state.off_loop(decode, ids, skip_special=False) for ids in prompts],
        options=options,
        n_ctx=loaded.info.n_ctx,
        is_array=is_array or len(prompts) * (params.n or 1) > 1,
        stream=params.is_streamed,
    )
    generation = service.intake.start(requests)
    writer = NativeWriter(answer)
    return await respond(request, generation, writer, state.settings, stream=params.is_streamed)

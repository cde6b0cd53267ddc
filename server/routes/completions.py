"""POST /v1/completions."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.answers.answer import Answer
from slotmux.server.answers.chunks import ChunkWriter
from slotmux.server.answers.logprobs import CompletionLogprobs
from slotmux.server.answers.prepare import build_requests, check_model, text_prompts
from slotmux.server.answers.stream import respond
from slotmux.server.http.errors import invalid
from slotmux.server.http.json_body import read_json
from slotmux.server.http.trace import trace_of
from slotmux.server.process.state import Loaded, ServerState, state_of
from slotmux.server.schemas.base import validate
from slotmux.server.schemas.completion import CompletionRequest

router = APIRouter()


@router.post("/v1/completions", response_model=None)
async def create_completion(request: Request) -> Response:
    """Continues one prompt or several."""
    state = state_of(request)
    service = state.ready()
    params = validate(CompletionRequest, await read_json(request, state.settings.body_timeout))
    loaded = service.loaded
    model = check_model(params, loaded.info)
    _check_count(len(params.prompts), loaded.info.n_slots + state.settings.max_queue)
    prompts = await text_prompts(state, loaded, params.prompts)
    requests = await build_requests(
        state, loaded, params, prompts, params.n_logprobs, trace_of(request)
    )
    n_top = params.n_logprobs
    answer = Answer(
        "completion",
        model,
        partial(CompletionLogprobs, loaded.tokenizer, n_top) if n_top >= 0 else None,
        prompts,
        params.n or 1,
        echoes=await _echoes(state, loaded, params) if params.echo else None,
        with_token_ids=bool(params.return_token_ids),
        with_usage_chunk=params.wants_usage_chunk,
    )
    generation = service.intake.start(requests)
    writer = ChunkWriter(answer)
    return await respond(request, generation, writer, state.settings, stream=params.is_streamed)


def _check_count(n_prompts: int, n_places: int) -> None:
    if n_prompts > n_places:
        raise invalid("prompt", f"At most {n_places} prompts: the server has as many places.")


async def _echoes(state: ServerState, loaded: Loaded, params: CompletionRequest) -> list[str]:
    """Each prompt as text: as it came, or decoded."""
    decode = loaded.tokenizer.decode
    return [
        prompt
        if isinstance(prompt, str)
        else await state.off_loop(decode, prompt, skip_special=False)
        for prompt in params.prompts
    ]

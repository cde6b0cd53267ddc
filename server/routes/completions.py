"""POST /v1/completions."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.answers.answer import Answer
from slotmux.server.answers.best_of import BestOfWriter
from slotmux.server.answers.chunks import ChunkWriter
from slotmux.server.answers.logprobs import CompletionLogprobs
from slotmux.server.answers.prepare import build_requests, check_model, text_prompts
from slotmux.server.answers.prompt_scores import PromptScores
from slotmux.server.answers.stream import respond
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.json_body import read_json
from slotmux.server.http.trace import trace_of
from slotmux.server.openapi import answers
from slotmux.server.openapi.operation import Operation
from slotmux.server.process.state import Loaded, ServerState, state_of
from slotmux.server.schemas.base import validate
from slotmux.server.schemas.completion import CompletionRequest

endpoints = Endpoints()


@endpoints.post(
    "/v1/completions", told=Operation(answers.Completion, CompletionRequest, answers.Completion)
)
async def create_completion(request: Request) -> Response:
    """Continues one prompt or several."""
    state = state_of(request)
    service = state.ready()
    params = validate(CompletionRequest, await read_json(request, state.settings.body_timeout))
    loaded = service.loaded
    model = check_model(params, loaded.info)
    n_room = 0 if params.max_tokens == 0 else 1
    prompts = await text_prompts(
        state, loaded, params.prompts, suffix=params.suffix or "", n_room=n_room
    )
    n_top = params.n_logprobs
    # Which choices are best is told by their log-probabilities, whether these are wanted or not.
    n_drawn = max(n_top, 0) if params.picks_best else n_top
    requests = await build_requests(state, loaded, params, prompts, n_drawn, trace_of(request))
    echoes = await _echoes(state, loaded, params) if params.echo else None
    answer = Answer(
        "completion",
        model,
        partial(CompletionLogprobs, loaded.tokenizer, n_top) if n_top >= 0 else None,
        prompts,
        params.n or 1,
        echoes=echoes,
        scores=_scores(loaded, params, prompts, echoes),
        with_token_ids=bool(params.return_token_ids),
        with_usage_chunk=params.wants_usage_chunk,
        has_continuous_usage=params.has_continuous_usage,
    )
    generation = service.intake.start(requests, n_at_once=2 * loaded.info.n_slots)
    writer = ChunkWriter(answer)
    if params.picks_best:
        writer = BestOfWriter(answer, params.n_generated_choices)
    return await respond(request, generation, writer, state.settings, stream=params.is_streamed)


def _scores(
    loaded: Loaded,
    params: CompletionRequest,
    prompts: list[list[int]],
    echoes: list[str] | None,
) -> PromptScores | None:
    """How log-probabilities of the prompts are told, if they are asked for."""
    if params.n_prompt_logprobs < 0:
        return None
    return PromptScores(
        loaded.tokenizer,
        prompts,
        echoes or (),
        n_echoed=-1 if echoes is None else params.n_logprobs,
        n_told=-1 if params.prompt_logprobs is None else params.prompt_logprobs,
    )


async def _echoes(state: ServerState, loaded: Loaded, params: CompletionRequest) -> list[str]:
    """Each prompt as text: as it came, or decoded."""
    decode = loaded.tokenizer.decode
    return [
        prompt
        if isinstance(prompt, str)
        else await state.off_loop(decode, prompt, skip_special=False)
        for prompt in params.prompts
    ]

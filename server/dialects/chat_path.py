"""From a dialect's body, told in OpenAI's words, to a running generation: the one path of all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from slotmux.runtime.engine.request import SamplingParams
from slotmux.server.answers.delta import PlainReader, Reader
from slotmux.server.answers.generation import Generation
from slotmux.server.answers.prepare import (
    build_requests,
    chat_prompt,
    check_model,
    text_prompts,
)
from slotmux.server.answers.turn import chat_turn
from slotmux.server.http.errors import ApiError
from slotmux.server.http.json_body import read_json
from slotmux.server.http.trace import trace_of
from slotmux.server.process.state import state_of
from slotmux.server.schemas.base import validate
from slotmux.server.schemas.chat import ChatRequest
from slotmux.server.schemas.completion import CompletionRequest

# OpenAI's names, and what the dialect calls them.
Names = Mapping[str, str]
# Lists that are told with other elements than they were sent with: a place in them means nothing.
COUNTED_ANEW = ("messages", "tools")


@dataclass(slots=True)
class Turn:
    """One assistant's turn that is being generated; there is one choice."""

    model: str
    n_prompt: int
    generation: Generation
    reader: Reader

    @property
    def sampling(self) -> SamplingParams:
        """How its tokens are drawn."""
        return self.generation.sinks[0].request.sampling

    @property
    def n_cached(self) -> int:
        """Tokens of the prompt that were in memory already, as far as that is known."""
        usage = self.generation.usages.get(0)
        if usage is not None:
            return usage.n_cached
        request_id = self.generation.sinks[0].request.id
        slots = self.generation.engine.stats().slots
        return next((slot.n_cached for slot in slots if slot.request_id == request_id), 0)


async def read_body(request: Request) -> dict[str, Any]:
    """The body as a JSON object, once there is a model. Raises ApiError."""
    state = state_of(request)
    state.ready()
    return await read_json(request, state.settings.body_timeout)


def chat_params(body: dict[str, Any], names: Names) -> ChatRequest:
    """A translated body, checked; what is refused is told by the dialect's own names."""
    try:
        return validate(ChatRequest, body)
    except ApiError as error:
        raise renamed(error, names) from None


async def begin_turn(request: Request, params: ChatRequest, names: Names) -> Turn:
    """Renders, tokenizes and submits. Raises ApiError."""
    state = state_of(request)
    service = state.ready()
    loaded = service.loaded
    try:
        model = check_model(params, loaded.info)
        turn = await chat_turn(state, loaded, params, trace_of(request))
        generation = service.intake.start(turn.requests)
    except ApiError as error:
        raise renamed(error, names) from None
    reader = PlainReader() if turn.new_reader is None else turn.new_reader()
    return Turn(model, len(turn.ids), generation, reader)


async def begin_completion(request: Request, body: dict[str, Any], names: Names) -> Turn:
    """The same for a raw prompt, told as a body of /v1/completions. Raises ApiError."""
    state = state_of(request)
    service = state.ready()
    loaded = service.loaded
    try:
        params = validate(CompletionRequest, body)
        model = check_model(params, loaded.info)
        prompts = await text_prompts(state, loaded, params.prompts, suffix=params.suffix or "")
        requests = await build_requests(state, loaded, params, prompts, -1, trace_of(request))
        generation = service.intake.start(requests)
    except ApiError as error:
        raise renamed(error, names) from None
    return Turn(model, len(prompts[0]), generation, PlainReader())


async def count_tokens(request: Request, params: ChatRequest, names: Names) -> int:
    """Tokens of the prompt that a body becomes. Raises ApiError."""
    state = state_of(request)
    loaded = state.ready().loaded
    try:
        check_model(params, loaded.info)
        return len((await chat_prompt(state, loaded, params)).ids)
    except ApiError as error:
        raise renamed(error, names) from None


def renamed(error: ApiError, names: Names) -> ApiError:
    """The same error with the parameter called what the dialect calls it."""
    if error.param is None:
        return error
    param = _own_name(error.param, names)
    if param == error.param:
        return error
    message = error.message.replace(f"'{error.param}'", f"'{param}'")
    return ApiError(
        error.status,
        message,
        code=error.code,
        param=param,
        type=error.type,
        headers=error.headers,
        extra=error.extra,
    )


def tool_names(places: Sequence[str], schema: str) -> dict[str, str]:
    """Names of the tools' members: ``places`` says where the client told each tool, ``schema`` what
    it calls the parameters."""
    names: dict[str, str] = {}
    for index, place in enumerate(places):
        names[f"tools[{index}]"] = names[f"tools[{index}].function"] = place
        names[f"tools[{index}].function.parameters"] = f"{place}.{schema}"
    return names


def _own_name(param: str, names: Names) -> str:
    """The longest beginning that has a name of the dialect's is replaced by it."""
    ends = [match.start() for match in re.finditer(r"[.\[]", param)]
    for end in (len(param), *reversed(ends[1:])):
        if param[:end] in names:
            return names[param[:end]] + param[end:]
    head = re.split(r"[.\[]", param, maxsplit=1)[0]
    if head in COUNTED_ANEW:
        return names.get(head, head)
    return names.get(head, head) + param.removeprefix(head)

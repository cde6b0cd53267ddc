"""From a validated body to engine requests: tokens, lengths, sampling, and their checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slotmux.runtime.engine.request import Request, SamplingParams, SpecParams
from slotmux.runtime.tokenizer import PromptTooLongError
from slotmux.server.answers.fim import can_fill, cannot_fill, fim_prompt
from slotmux.server.answers.sampling import needs_texts, sampling_of
from slotmux.server.grammars.door import compile_grammar, tenant_of
from slotmux.server.http.errors import ApiError, invalid, not_supported
from slotmux.server.http.session import session_name
from slotmux.server.http.trace import Trace
from slotmux.server.interfaces import RenderedPort, TokenizerPort
from slotmux.server.process.state import Loaded, ModelInfo, ServerState
from slotmux.server.schemas.chat import TemplateParams
from slotmux.server.schemas.completion import Prompt
from slotmux.server.schemas.generation import GenerationParams
from slotmux.server.templates.chat_template import TemplateError
from slotmux.server.tools.generic import as_text, calls_as_text, introduce

MAX_NAMES_TOLD = 8


def check_model(params: GenerationParams, info: ModelInfo) -> str:
    """The name the answer carries. Raises ApiError 404 for a model that is not served, and 501 for
    one that generates nothing."""
    name = served_name(params.model, info)
    if not info.can_generate:
        what = "ranks documents (POST /v1/rerank)" if info.pooling == "rank" else "gives vectors"
        raise not_supported(f"This model {what} and generates no text.", "model")
    return name


def served_name(asked: str | None, info: ModelInfo) -> str:
    """The name under which the model that was asked for is told. Raises ApiError 404."""
    name = info.served_as(asked)
    if name is None:
        names = ", ".join(f"'{name}'" for name in info.names[:MAX_NAMES_TOLD])
        raise ApiError(
            404,
            f"The model does not exist here. Served: {names}.",
            param="model",
            code="model_not_found",
        )
    return name


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """Rendered messages, as text and as tokens."""

    text: str
    ids: list[int]


async def chat_prompt(state: ServerState, loaded: Loaded, params: TemplateParams) -> ChatPrompt:
    """Renders messages and encodes them, off the event loop."""
    check_chat_size(loaded, params)
    prompt = await state.off_loop(_render_and_encode, loaded, params)
    check_length(loaded.info, len(prompt.ids), "messages")
    return prompt


async def text_prompts(
    state: ServerState,
    loaded: Loaded,
    prompts: Sequence[Prompt],
    *,
    suffix: str = "",
    n_room: int = 1,
) -> list[list[int]]:
    """Token ids of each prompt of a text completion, with room for ``n_room`` tokens more.
    ``suffix``: what is to come behind the completion; the prompts are texts."""
    if suffix and not can_fill(loaded.tokenizer.fim):
        raise cannot_fill("suffix")
    encoded = []
    for prompt in prompts:
        if isinstance(prompt, str):
            check_text_size(loaded, "prompt", len(prompt.encode()) + len(suffix.encode()))
            ids = await state.off_loop(_encode, loaded, prompt, suffix)
        else:
            ids = prompt
            check_ids(ids, loaded.n_vocab, "prompt")
        if not ids:
            raise invalid("prompt", "The prompt is empty and the model has no token to begin with.")
        check_length(loaded.info, len(ids), n_room=n_room)
        encoded.append(ids)
    return encoded


def check_text_size(loaded: Loaded, param: str, n_bytes: int) -> None:
    """Refuses a text that cannot fit however well it is cut into tokens, before that work."""
    n_at_least = n_bytes // max(loaded.n_max_token_bytes, 1)
    if n_at_least >= loaded.info.n_ctx:
        raise too_long(param, loaded.info.n_ctx, n_at_least, "at least ")


def check_chat_size(loaded: Loaded, params: TemplateParams) -> None:
    """check_text_size for the sum of all messages."""
    n_bytes = sum(message.n_bytes for message in params.messages)
    check_text_size(loaded, "messages", n_bytes)


def check_length(info: ModelInfo, n_prompt: int, param: str = "prompt", n_room: int = 1) -> None:
    """A prompt must leave room for one token, or ``n_room``."""
    if n_prompt + n_room > info.n_ctx:
        raise too_long(param, info.n_ctx, n_prompt)


def too_long(param: str, n_ctx: int, n_prompt: int, about: str = "") -> ApiError:
    """400 context_length_exceeded, with llama-server's two extra fields."""
    return ApiError(
        400,
        f"The context holds {n_ctx} tokens; the prompt has {about}{n_prompt}.",
        code="context_length_exceeded",
        param=param,
        extra={"n_prompt_tokens": n_prompt, "n_ctx": n_ctx},
    )


def check_ids(ids: Sequence[int], n_vocab: int, param: str) -> None:
    """Every id must be in the vocabulary."""
    if ids and max(ids) >= n_vocab:
        raise invalid(param, f"A token id is outside the vocabulary of {n_vocab}.")


async def sampling_for(
    state: ServerState, loaded: Loaded, params: GenerationParams, n_logprobs: int
) -> SamplingParams:
    """sampling_of, off the event loop where that may take long."""
    n_ctx = loaded.info.n_ctx
    if needs_texts(params, loaded.sampling):
        return await state.off_loop(sampling_of, params, loaded, n_ctx, n_logprobs)
    return sampling_of(params, loaded, n_ctx, n_logprobs)


async def build_requests(
    state: ServerState,
    loaded: Loaded,
    params: GenerationParams,
    prompts: list[list[int]],
    n_logprobs: int,
    trace: Trace,
) -> list[Request]:
    """One engine request per prompt, bound to what the body says an answer shall look like.

    Raises ApiError 400.
    """
    info = loaded.info
    _check_bounds(params, loaded)
    spec, constraint = params.grammar_spec, None
    if spec is not None:
        tenant = tenant_of(trace, params.cache_salt)
        constraint = await compile_grammar(state, loaded, spec, tenant)
    sampling = await sampling_for(state, loaded, params, n_logprobs)
    limit = params.n_max_tokens
    if limit is None:
        limit = state.settings.n_predict
        limit = params.default_max_tokens if limit < 0 else limit
    return [
        Request(
            prompt=ids,
            sampling=sampling,
            on_output=unset_output,
            max_tokens=min(limit, info.n_ctx) if limit >= 0 else -1,
            n_prompt_logprobs=params.n_prompt_logprobs,
            min_tokens=min(params.min_tokens or 0, info.n_ctx),
            n=params.n_generated_choices,
            stop=tuple(params.stop or ()),
            stop_token_ids=frozenset(params.stop_token_ids or ()),
            include_stop=bool(params.include_stop_str_in_output),
            ignore_eos=bool(params.ignore_eos),
            cache_prompt=params.cache_prompt is not False,
            # another key's prefixes are out of reach, whatever salt is sent
            cache_salt=f"{trace.key}/{params.cache_salt or ''}",
            slot_id=-1 if params.id_slot is None else params.id_slot,
            speculative=_speculative(params),
            constraint=constraint,
            boundaries=message_starts(ids, loaded.tokenizer) if loaded.keeps_states else (),
            label=trace.request_id,
            client=client_of(state, trace),
            priority=params.priority or 0,
            session=session_name(trace, params.session_id, params.prompt_cache_key),
            n_together=len(prompts),
            is_first=index == 0,
        )
        for index, ids in enumerate(prompts)
    ]


def client_of(state: ServerState, trace: Trace) -> str:
    """Who a request is for, as fairness counts: with several API keys the key, else what the
    gateway's header says. A header of its own choice must not get a key more turns."""
    return trace.key if state.keys.n_keys > 1 else trace.fairness


def _speculative(params: GenerationParams) -> SpecParams:
    wishes = params.speculative
    if wishes is None:
        return SpecParams()
    return SpecParams(wishes.n_max, wishes.n_min, wishes.p_min)


def message_starts(ids: Sequence[int], tokenizer: TokenizerPort) -> tuple[int, ...]:
    """Positions of control tokens that open something; those that end a message are its last.

    Templates begin messages with them and users cannot write them, so this needs no knowledge of
    the template, and holds for raw prompts as well.
    """
    openers = {i for i in set(ids) - tokenizer.eog_ids if tokenizer.is_control(i)}
    return tuple(i for i, token_id in enumerate(ids) if token_id in openers and i)


def _check_bounds(params: GenerationParams, loaded: Loaded) -> None:
    n_slots, n_vocab = loaded.info.n_slots, loaded.n_vocab
    if params.id_slot is not None and params.id_slot >= n_slots:
        raise invalid("id_slot", f"The server has {n_slots} slots.")
    check_ids(params.stop_token_ids or (), n_vocab, "stop_token_ids")


def _render_and_encode(loaded: Loaded, params: TemplateParams) -> ChatPrompt:
    rendered = render(loaded, params)
    try:
        ids = loaded.tokenizer.encode_rendered(rendered, max_tokens=loaded.info.n_ctx)
        return ChatPrompt(rendered.text, ids)
    except PromptTooLongError as error:
        raise too_long("messages", loaded.info.n_ctx, error.n_tokens, "at least ") from None


def _encode(loaded: Loaded, text: str, suffix: str) -> list[int]:
    """Special tokens are parsed: whoever writes a raw prompt writes all of it. Not so beside a
    suffix, where the server puts them."""
    n_ctx = loaded.info.n_ctx
    try:
        if suffix:
            return fim_prompt(loaded.tokenizer, text, suffix, max_tokens=n_ctx)
        return loaded.tokenizer.encode(text, parse_special=True, max_tokens=n_ctx)
    except PromptTooLongError as error:
        raise too_long("prompt", n_ctx, error.n_tokens, "at least ") from None


def render(loaded: Loaded, params: TemplateParams) -> RenderedPort:
    """Messages through the model's template. Raises ApiError 400 when it cannot be done."""
    if loaded.template is None:
        raise invalid("messages", "The model has no chat template.", "no_chat_template")
    messages = [message.for_template() for message in params.messages]
    shown = params.tool_wish.shown
    if not loaded.style.tells_tools:
        messages = as_text(messages)
        messages = introduce(messages, shown) if shown else messages
        shown = ()
    elif not loaded.style.shows_calls:
        messages = calls_as_text(messages, loaded.style.format)
    try:
        return loaded.template.render(
            messages,
            tools=[tool.for_template() for tool in shown] or None,
            kwargs=params.template_variables,
            add_generation_prompt=params.begins_turn,
            continue_final_message=params.continues,
        )
    except TemplateError as error:
        raise invalid(error.param or "messages", f"{error}.", "template_error") from None


def unset_output(request: Request, outputs: object) -> None:
    """Stands in until the Intake gives the request its bridge."""
    raise AssertionError("the request was submitted without the Intake")

"""From a chat's body to requests and readers: what every dialect that has messages goes through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import orjson

from slotmux.runtime.engine.constraint import ConstraintFactory
from slotmux.runtime.engine.request import Request
from slotmux.server.answers.delta import NewReader
from slotmux.server.answers.prepare import build_requests, chat_prompt
from slotmux.server.grammars.door import compile_grammar, tenant_of
from slotmux.server.grammars.spec import GrammarSpec
from slotmux.server.http.errors import ApiError, invalid
from slotmux.server.http.trace import Trace
from slotmux.server.process.state import Loaded, ServerState
from slotmux.server.schemas.chat import ChatRequest
from slotmux.server.schemas.thinking import BUDGET_NAMES
from slotmux.server.schemas.tools import ToolWish
from slotmux.server.tools.budget import ThoughtBudget
from slotmux.server.tools.grammar import Wanted, lark_of
from slotmux.server.tools.reader import MessageReader, Plan, Telling
from slotmux.server.tools.rules import Rules, Tool, object_schema
from slotmux.server.tools.style import ChatStyle
from slotmux.server.tools.thought import is_left_open, is_open_in

MAX_TRIED = 64  # tools whose schemas are looked at one by one when one of them is wrong


@dataclass(frozen=True, slots=True)
class Turn:
    """A chat that is ready for the engine. ``new_reader``: of each choice; None: all is content."""

    ids: list[int]
    requests: list[Request]
    new_reader: NewReader | None


async def chat_turn(state: ServerState, loaded: Loaded, params: ChatRequest, trace: Trace) -> Turn:
    """Renders, encodes, and binds the requests to grammars. Raises ApiError 4xx."""
    style, wish = loaded.style, params.tool_wish
    prompt = await chat_prompt(state, loaded, params)
    requests = await build_requests(state, loaded, params, [prompt.ids], params.n_logprobs, trace)
    reads_calls = bool(wish.callable) and params.parse_tool_calls is not False
    starts_in_thought = style.thinking is not None and prompt_is_open(prompt.text, style, params)
    is_bound = await _bind(state, loaded, params, requests, trace, starts_in_thought)
    if not (reads_calls or style.thinking or style.is_harmony):
        return Turn(prompt.ids, requests, None)
    for request in requests:
        request.visible = style.visible(with_calls=reads_calls)
    plan = Plan(
        style.format if reads_calls or style.is_harmony else None,
        {tool.name: tool.parameters for tool in wish.callable} if reads_calls else {},
        is_eager=is_bound,
        thinking=style.thinking,
        starts_in_thought=starts_in_thought,
        end_ids=_end_ids(style),
        telling=_telling(params),
    )
    return Turn(prompt.ids, requests, partial(MessageReader, plan))


def prompt_is_open(text: str, style: ChatStyle, params: ChatRequest) -> bool:
    """Whether an answer begins inside a thought."""
    if style.thinking is None:
        return False
    if params.continues:
        content = params.messages[-1].content
        return isinstance(content, str) and is_left_open(content, style.thinking)
    return is_open_in(text, style.thinking)


def _telling(params: ChatRequest) -> Telling:
    if params.hides_thoughts:
        return Telling.NOT
    if params.reasoning_format == "none":
        return Telling.INSIDE
    return Telling.BOTH if params.reasoning_format == "deepseek-legacy" else Telling.APART


def _end_ids(style: ChatStyle) -> frozenset[int]:
    marks = ("<|end|>",) if style.is_harmony else ()
    if style.thinking is not None:
        marks = (style.thinking.closing,)
    found = [style.find_token(mark) for mark in marks]
    return frozenset(token.id for token in found if token is not None)


async def _bind(
    state: ServerState,
    loaded: Loaded,
    params: ChatRequest,
    requests: list[Request],
    trace: Trace,
    starts_in_thought: bool,
) -> bool:
    """Gives the requests a grammar of calls and thoughts, around the one of content that they have.
    Whether there is one that calls keep to."""
    style, wish, spec = loaded.style, params.tool_wish, params.grammar_spec
    n_thinking = params.n_thinking
    has_thoughts = style.thinking is not None or style.is_harmony
    if not wish.callable and not (has_thoughts and (n_thinking is not None or spec is not None)):
        return False
    content = "" if spec is None else _content_rule(spec, bool(wish.callable))
    if content is None:  # a grammar of the whole answer, thoughts too
        return False
    followed = tuple(tool.as_followed() for tool in wish.callable)
    wanted = Wanted(
        followed,
        must_call=wish.mode == "required",
        many=wish.many,
        starts_in_thought=starts_in_thought,
        content=content,
    )
    text = lark_of(style, wanted)
    tenant = tenant_of(trace, params.cache_salt)
    try:
        made = await compile_grammar(state, loaded, GrammarSpec("lark", text, "tools"), tenant)
    except ApiError:
        await _blame_tool(state, loaded, params, wish, tenant)
        raise
    relaxed = () if followed == wish.callable else ("pattern",)
    trace.unenforced = tuple(sorted({*made.unenforced, *relaxed}))
    bound: ConstraintFactory = made
    if n_thinking is not None and has_thoughts:
        bound = _budget(style, made, n_thinking, starts_in_thought)
    for request in requests:
        request.constraint = bound
    return bool(wish.callable)


def _budget(
    style: ChatStyle, made: ConstraintFactory, n_tokens: int, starts_in_thought: bool
) -> ThoughtBudget:
    """``made`` with a bound on the tokens of a thought; harmony's is its first message."""
    opening, closing = "<|message|>", "<|end|>"
    if style.thinking is not None:
        opening, closing = style.thinking.opening, style.thinking.closing
    begin, end = style.find_token(opening), style.find_token(closing)
    if end is None or (begin is None and not starts_in_thought):
        raise invalid(
            BUDGET_NAMES[0],
            "This model's thoughts do not end with a token that could be forced.",
            "unsupported_value",
        )
    opening_id = None if starts_in_thought or begin is None else begin.id
    return ThoughtBudget(made, n_tokens, end.id, opening_id)


def _content_rule(spec: GrammarSpec, beside_calls: bool) -> str | None:
    """What content keeps to, as a Lark expression; None if it can only be all of an answer."""
    if spec.kind in ("json_object", "json_schema"):
        schema = orjson.loads(spec.text) if spec.kind == "json_schema" else {"type": "object"}
        if isinstance(schema, Mapping):
            return Rules.json_text(schema)
    if spec.kind == "choice":
        return f"({' | '.join(orjson.dumps(item).decode() for item in orjson.loads(spec.text))})"
    if beside_calls:
        raise invalid(spec.param, f"'{spec.param}' and tools cannot be followed together.")
    return None


async def _blame_tool(
    state: ServerState, loaded: Loaded, params: ChatRequest, wish: ToolWish, tenant: str
) -> None:
    """Raises ApiError that names the place in the tool whose schema is wrong, if one is."""
    names = "functions" if wish.as_function_call else "tools"
    tools: list[Tool] = params.functions if wish.as_function_call else params.tools
    for index, tool in enumerate(tools[:MAX_TRIED]):
        inner = "" if wish.as_function_call else ".function"
        param = f"{names}[{index}]{inner}.parameters"
        schema = orjson.dumps(object_schema(tool.as_followed().parameters)).decode()
        await compile_grammar(state, loaded, GrammarSpec("json_schema", schema, param), tenant)

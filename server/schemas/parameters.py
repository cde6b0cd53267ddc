"""One rule for every parameter that clients of OpenAI, vLLM, llama-server and Ollama know.

A field of the endpoint's schema is *honoured*. Of the rest, *advice* may be ignored, since nothing
that an answer promises depends on it; anything else is refused by its name, unless its value asks
for nothing: null, or one of its *neutral* values. docs/parameters.md is made from this table.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pydantic_core import PydanticCustomError

from slotmux.runtime.sampling.params import NUMBERS

Kind = Literal["string", "boolean", "number", "object", "array", "any"]

_TYPES: Mapping[Kind, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "number": (int, float),
    "object": (dict,),
    "array": (list,),
    "any": (str, bool, int, float, dict, list),
}


class Place(StrEnum):
    """Where in a body a name stands; each place has a table of its own."""

    CHAT = "chat"
    COMPLETION = "completion"
    MESSAGE = "message"
    PART = "part"
    STREAM_OPTIONS = "stream_options"


@dataclass(frozen=True, slots=True)
class Parameter:
    """What is known of a name. ``neutral``: values that ask for nothing, as null always does.
    ``advice``: the type of a value that is checked and then ignored; None: it is no advice."""

    name: str
    origin: str
    neutral: tuple[Any, ...] = ()
    advice: Kind | None = None
    note: str = ""

    def asks_for_nothing(self, value: Any) -> bool:
        """Whether ``value`` leaves the answer as it is. 1 and 1.0 are one number, true is none."""
        return value is None or any(_is_same(value, neutral) for neutral in self.neutral)


def _is_same(value: Any, neutral: Any) -> bool:
    if isinstance(value, bool) or isinstance(neutral, bool):
        return value is neutral
    if isinstance(neutral, int | float):
        return isinstance(value, int | float) and bool(value == neutral)
    return type(value) is type(neutral) and bool(value == neutral)


OPENAI, VLLM, LLAMA, OLLAMA = "OpenAI", "vLLM", "llama-server", "Ollama"
ROUTERS = "others"


def _rows(origin: str, *rows: Parameter | str) -> tuple[Parameter, ...]:
    """Rows of one origin; a string is names, separated by blanks, of which only null is neutral."""
    out: list[Parameter] = []
    for row in rows:
        if isinstance(row, str):
            out += (Parameter(name, origin) for name in row.split())
        else:
            out.append(row)
    return tuple(out)


def _neutral(origin: str, name: str, *values: Any, note: str = "") -> Parameter:
    return Parameter(name, origin, values, note=note)


def _advice(origin: str, kind: Kind, names: str, note: str) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, origin, advice=kind, note=note) for name in names.split())


_NO_SHIFT = "the context is never shifted"
_ABOUT_THE_CLIENT = "what a client tells about itself"
_ONE_MACHINE = "an operator's choice"

_OPENAI = (
    *_rows(
        OPENAI,
        "model messages prompt max_tokens max_completion_tokens seed stream stream_options",
        _neutral(OPENAI, "stop", "", []),
        _neutral(OPENAI, "logprobs", note="chat: true or false; completions: how many"),
        _neutral(OPENAI, "top_logprobs", 0),
        _neutral(OPENAI, "n", 1),
        Parameter("best_of", OPENAI, (1,), note="of the chat endpoints: use n"),
        _neutral(OPENAI, "echo", False),
        _neutral(OPENAI, "suffix", ""),
        _neutral(OPENAI, "logit_bias", {}),
        _neutral(OPENAI, "response_format", {"type": "text"}),
        _neutral(OPENAI, "tools", []),
        _neutral(OPENAI, "tool_choice", "none", "auto", note="'auto' without tools"),
        _neutral(OPENAI, "parallel_tool_calls", True, False, note="without tools"),
        _neutral(OPENAI, "functions", []),
        _neutral(OPENAI, "function_call", "none", "auto", note="'auto' without functions"),
        _neutral(OPENAI, "modalities", ["text"], []),
        "audio web_search_options moderation reasoning_effort prompt_cache_options",
    ),
    *_advice(OPENAI, "boolean", "store", "nothing is stored"),
    *_advice(OPENAI, "string", "service_tier", "there is one tier"),
    *_advice(OPENAI, "object", "prediction", "drafts come from the text and the model"),
    *_advice(OPENAI, "string", "prompt_cache_retention", "prefixes stay as long as memory allows"),
    *_advice(OPENAI, "string", "user safety_identifier", _ABOUT_THE_CLIENT),
    *_advice(OPENAI, "object", "metadata", _ABOUT_THE_CLIENT),
    Parameter("prompt_cache_key", OPENAI, note="the session: its next request gets its slot"),
    Parameter("verbosity", OPENAI, note="given to a template that reads it"),
)

_VLLM = (
    *_rows(
        VLLM,
        "min_tokens stop_token_ids include_stop_str_in_output"
        " ignore_eos return_token_ids cache_salt priority add_generation_prompt"
        " continue_final_message chat_template_kwargs session_id",
        "chat_template prompt_embeds repetition_detection structural_tag guided_json guided_regex"
        " guided_grammar guided_whitespace_pattern data_parallel_rank guided_json_object"
        " prompt_logprobs",
        _neutral(VLLM, "thinking_token_budget", -1),
        _neutral(VLLM, "watermarking", False),
        _neutral(VLLM, "routed_experts_prompt_start", 0),
        _neutral(VLLM, "return_token_offsets", False),
        _neutral(VLLM, "ec_transfer_params", {}),
        _neutral(VLLM, "guided_choice", []),
        _neutral(VLLM, "structured_outputs", {}),
        _neutral(VLLM, "use_beam_search", False),
        _neutral(VLLM, "length_penalty", 1),
        _neutral(VLLM, "early_stopping", False),
        _neutral(VLLM, "skip_special_tokens", True),
        _neutral(VLLM, "spaces_between_special_tokens", True),
        _neutral(VLLM, "truncate_prompt_tokens", -1),
        _neutral(VLLM, "allowed_token_ids", note="an empty list allows nothing: it is refused"),
        _neutral(VLLM, "bad_words", []),
        _neutral(VLLM, "logprob_token_ids", []),
        _neutral(VLLM, "logits_processors", []),
        _neutral(VLLM, "documents", []),
        _neutral(VLLM, "mm_processor_kwargs", {}),
        _neutral(VLLM, "media_io_kwargs", {}),
        _neutral(VLLM, "kv_transfer_params", {}),
        _neutral(VLLM, "vllm_xargs", {}),
        _neutral(VLLM, "return_tokens_as_token_ids", False),
        _neutral(VLLM, "return_prompt_text", False),
        _neutral(VLLM, "include_reasoning", True),
        _neutral(VLLM, "enable_thinking"),
        _neutral(VLLM, "stream_interval", 1),
    ),
    *_advice(VLLM, "string", "request_id", "X-Request-Id is the name of a request here"),
    *_advice(VLLM, "string", "guided_decoding_backend", "there is one"),
    *_advice(VLLM, "string", "truncation_side", "no prompt is truncated"),
    *_advice(VLLM, "boolean", "return_mm_kwargs", "it concerns another endpoint"),
)


def _number_rows() -> Iterator[Parameter]:
    """What is told of the numbers of SamplingParams."""
    for name, (_, told) in NUMBERS.items():
        for row, origin in ((name, told.origin), *told.aliases):
            yield Parameter(row, origin, told.neutral, note=told.note)


_SAMPLING = (
    *_number_rows(),
    *_rows(
        LLAMA,
        "samplers",
        _neutral(LLAMA, "dry_sequence_breakers", ["\n", ":", '"', "*"], []),
        _neutral(LLAMA, "adaptive_target", -1),
        _neutral(LLAMA, "adaptive_decay", 0.9),
        _neutral(LLAMA, "tfs_z", 1),
        _neutral(LLAMA, "penalize_nl", False),
    ),
)

_LLAMA = (
    *_rows(
        LLAMA,
        "cache_prompt id_slot speculative",
        Parameter("n_predict", LLAMA, (-1,), note="use max_tokens"),
        Parameter("n_probs", LLAMA, (0,), note="use logprobs"),
        Parameter("n_cmpl", LLAMA, (1,), note="use n"),
        _neutral(LLAMA, "n_indent", 0),
        _neutral(LLAMA, "t_max_predict_ms", 0, -1),
        _neutral(LLAMA, "response_fields", []),
        _neutral(LLAMA, "return_tokens", False),
        _neutral(LLAMA, "return_progress", False),
        _neutral(LLAMA, "timings_per_token", False),
        _neutral(LLAMA, "verbose", False),
        _neutral(LLAMA, "post_sampling_probs", False),
        _neutral(LLAMA, "grammar", ""),
        _neutral(LLAMA, "json_schema", {}, note="{} allows any text where there is none"),
        _neutral(LLAMA, "grammar_lazy", False),
        _neutral(LLAMA, "grammar_triggers", []),
        _neutral(LLAMA, "preserved_tokens", []),
        _neutral(LLAMA, "reasoning_format", "none", "auto"),
        _neutral(LLAMA, "reasoning_control", False),
        _neutral(LLAMA, "reasoning_budget_tokens", -1),
        _neutral(LLAMA, "thinking_budget_tokens", -1),
        _neutral(LLAMA, "reasoning_budget_message", ""),
        _neutral(LLAMA, "parse_tool_calls", True, False, note="without tools"),
        _neutral(LLAMA, "generation_prompt", ""),
        _neutral(LLAMA, "lora", []),
        _neutral(LLAMA, "image_data", []),
        _neutral(LLAMA, "sse_ping_interval", note="--sse-ping-interval is the server's"),
    ),
    *_advice(LLAMA, "number", "n_keep n_discard", _NO_SHIFT),
    *_advice(LLAMA, "number", "n_cache_reuse", "only what is equal to the bit is reused"),
    *_advice(LLAMA, "boolean", "backend_sampling", "tokens are drawn beside the logits anyway"),
)

_OLLAMA = (
    *_rows(
        OLLAMA,
        Parameter("options", OLLAMA, ({},), note="name what is in it beside the others"),
        Parameter("num_predict", OLLAMA, (-1,), note="use max_tokens"),
        _neutral(OLLAMA, "format", ""),
        _neutral(OLLAMA, "system", ""),
        _neutral(OLLAMA, "template", ""),
        _neutral(OLLAMA, "raw", False),
        _neutral(OLLAMA, "think"),
        _neutral(OLLAMA, "images", []),
        _neutral(OLLAMA, "context", []),
    ),
    *_advice(OLLAMA, "any", "keep_alive", "one model stays loaded; of several each so long"),
    *_advice(OLLAMA, "number", "num_batch num_gpu main_gpu num_thread", _ONE_MACHINE),
    *_advice(OLLAMA, "boolean", "use_mmap use_mlock low_vram numa f16_kv", _ONE_MACHINE),
)

_OTHERS = _rows(ROUTERS, "reasoning", _neutral(ROUTERS, "thinking", {"type": "disabled"}))

_BODY = (*_OPENAI, *_VLLM, *_SAMPLING, *_LLAMA, *_OLLAMA, *_OTHERS)

_MESSAGE = (
    *_rows(
        OPENAI,
        "role content name",
        _neutral(OPENAI, "tool_calls", []),
        "tool_call_id function_call audio",
        _neutral(OPENAI, "refusal", ""),
    ),
    *_advice(OPENAI, "array", "annotations", "where an answer had its facts from"),
    *_advice(OPENAI, "any", "parsed", "what the client made of the content"),
    *_advice(OPENAI, "string", "id", "a client's own name"),
    *_advice(OPENAI, "any", "timestamp created created_at", "a client's own clock"),
    *_advice(OPENAI, "string", "status type model finish_reason", "of the answer it was"),
    *_advice(OPENAI, "object", "metadata", _ABOUT_THE_CLIENT),
    *_advice(ROUTERS, "object", "cache_control", "every prefix is kept that memory allows"),
    *_advice(ROUTERS, "array", "reasoning_details", "the thought is in reasoning_content"),
    *_rows(ROUTERS, "reasoning_content reasoning thinking"),
    *_rows(OLLAMA, _neutral(OLLAMA, "images", [])),
)

_PART = (
    *_rows(OPENAI, "type text"),
    *_advice(OPENAI, "string", "id", "a client's own name"),
    *_advice(OPENAI, "array", "annotations citations", "where an answer had its facts from"),
    *_advice(ROUTERS, "object", "cache_control", "every prefix is kept that memory allows"),
)

_STREAM_OPTIONS = _rows(
    OPENAI,
    "include_usage",
    _neutral(OPENAI, "include_obfuscation", False),
    _neutral(VLLM, "continuous_usage_stats", False),
)

TABLES: Mapping[Place, Mapping[str, Parameter]] = {
    place: {row.name: row for row in rows}
    for place, rows in {
        Place.CHAT: (*_BODY, _neutral(VLLM, "add_special_tokens", False)),
        Place.COMPLETION: (*_BODY, _neutral(VLLM, "add_special_tokens", True)),
        Place.MESSAGE: _MESSAGE,
        Place.PART: _PART,
        Place.STREAM_OPTIONS: _STREAM_OPTIONS,
    }.items()
}


def check_not_honoured(place: Place | None, name: str, value: Any) -> None:
    """Passes a name that is no field of its schema if its value asks for nothing or is advice.

    Raises PydanticCustomError: unknown_parameter, unsupported_parameter or invalid_type.
    """
    row = TABLES[place].get(name) if place is not None else None
    context = {"name": name}
    if row is None:
        raise PydanticCustomError("unknown_parameter", "{name}", context)
    if row.asks_for_nothing(value):
        return
    if row.advice is None:
        context["note"] = row.note
        raise PydanticCustomError("unsupported_parameter", "{name}", context)
    if not isinstance(value, _TYPES[row.advice]) or _is_flag(value, row.advice):
        text = f"should be {'an' if row.advice[0] in 'ao' else 'a'} {row.advice}"
        raise PydanticCustomError("advice_type", "{text}", {"text": text, "param": name})


def _is_flag(value: Any, kind: Kind) -> bool:
    """A boolean where a number is wanted: Python takes it for one."""
    return isinstance(value, bool) and kind == "number"


def described(place: Place, fields: Container[str]) -> dict[str, Any]:
    """JSON schemas of the names that are no ``fields``: what of them is accepted."""
    return {name: _described(row) for name, row in TABLES[place].items() if name not in fields}


def _described(row: Parameter) -> dict[str, Any]:
    if row.advice is None:
        text = f"Not supported{f': {row.note}' if row.note else ''}."
        return {"enum": [None, *row.neutral], "description": text}
    text = f"Advice that is ignored: {row.note}."
    if row.advice == "any":
        return {"description": text}
    return {"anyOf": [{"type": row.advice}, {"type": "null"}], "description": text}

"""``options`` and what stands beside them, as OpenAI's parameters."""

from __future__ import annotations

from typing import Any

from slotmux.server.dialects.blocks import missing, object_at, unsupported, wrong_type
from slotmux.server.http.errors import invalid

# Ollama's name of an option: ours.
RENAMED = {"num_predict": "max_tokens", "penalize_newline": "penalize_nl"}
_SAME = (
    "temperature top_k top_p min_p typical_p tfs_z repeat_penalty repeat_last_n presence_penalty"
    " frequency_penalty seed stop mirostat mirostat_tau mirostat_eta"
)
_TAKEN = dict.fromkeys(_SAME.split()) | RENAMED
# An operator's choice, made when the server was started, or about memory that is managed here.
# num_ctx is among them: a client's wish for a context cannot change the one that there is.
_NUMBERS = frozenset(
    ["num_ctx", "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_gqa"]
)
_FLAGS = frozenset(
    ["use_mmap", "use_mlock", "low_vram", "numa", "f16_kv", "logits_all", "vocab_only"]
)
# OpenAI's names of what is told by another one here.
NAMES = {name: f"options.{name}" for name in _SAME.split()} | {
    **{ours: f"options.{name}" for name, ours in RENAMED.items()},
    "max_completion_tokens": "options.num_predict",
    "response_format": "format",
    "reasoning_effort": "think",
    "enable_thinking": "think",
}


def chat_options(options: Any) -> dict[str, Any]:
    """OpenAI's names and values. Raises ApiError 400 for options that are not known."""
    told: dict[str, Any] = {}
    for name, value in object_at({} if options is None else options, "options").items():
        if name in _TAKEN:
            told[_TAKEN[name] or name] = value
        elif name in _NUMBERS:
            if value is not None and (type(value) not in (int, float)):
                raise wrong_type(f"options.{name}", "a number")
        elif name in _FLAGS:
            if value is not None and not isinstance(value, bool):
                raise wrong_type(f"options.{name}", "a boolean")
        elif value is not None:
            shown = name if name.isidentifier() and len(name) <= 64 else "?"
            path = f"options.{shown}"
            raise invalid(path, f"Unknown parameter: '{path}'.", "unknown_parameter")
    if told.get("max_tokens") == -2:  # until the context is full
        told["max_tokens"] = -1
    if told.get("seed") == -1:
        del told["seed"]
    return {name: value for name, value in told.items() if value not in (None, [])}


def response_format(value: Any) -> dict[str, Any]:
    """``format``: "json", or the schema itself."""
    if value is None or value == "":
        return {}
    if value == "json":
        return {"response_format": {"type": "json_object"}}
    if not isinstance(value, dict):
        raise wrong_type("format", "'json' or a JSON schema")
    schema = {"name": "format", "schema": value, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def thinking(value: Any) -> dict[str, Any]:
    """``think``: whether to, or how hard."""
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"enable_thinking": value}
    if value not in ("low", "medium", "high"):
        raise wrong_type("think", "a boolean, 'low', 'medium' or 'high'")
    return {"reasoning_effort": value}


def no_images(value: Any, path: str) -> None:
    """Raises ApiError 400 if there are any."""
    if value not in (None, []):
        raise unsupported(path, "models here read text")


def model_name(body: dict[str, Any], param: str = "model") -> str:
    """The model asked for, without Ollama's tag for the latest one."""
    value = body.get(param)
    if value is None:
        raise missing(param)
    if not isinstance(value, str):
        raise wrong_type(param, "a string")
    return value.removesuffix(":latest")

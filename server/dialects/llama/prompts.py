"""Prompts as llama-server takes them: text, tokens, both mixed, objects, and lists of these."""

from __future__ import annotations

from typing import Any

from slotmux.runtime.tokenizer import PromptTooLongError
from slotmux.server.answers.prepare import check_ids, check_length, check_text_size, too_long
from slotmux.server.http.errors import invalid
from slotmux.server.process.state import Loaded, ServerState
from slotmux.server.schemas.base import whole_in_lists
from slotmux.server.schemas.completion import MAX_PROMPTS

Part = str | int
MAX_PARTS = 1 << 20
_FORMS = "should be a string, an array of token ids and strings, or an array of these"


def read_prompts(value: Any) -> tuple[list[list[Part]], bool]:
    """The parts of each prompt, and whether there may be several (the answer is an array then).

    Raises ApiError 400.
    """
    if isinstance(value, str | dict):
        return [_parts(value)], False
    if not isinstance(value, list) or not value:
        raise invalid("prompt", f"Invalid 'prompt': {_FORMS}.", "invalid_type")
    if len(value) > MAX_PARTS:
        raise invalid("prompt", f"Invalid 'prompt': at most {MAX_PARTS} elements.")
    value = whole_in_lists(value)
    if any(type(part) is int for part in value):
        return [_parts(value)], False
    if len(value) > MAX_PROMPTS:
        raise invalid("prompt", f"Invalid 'prompt': at most {MAX_PROMPTS} prompts.")
    return [_parts(one) for one in value], True


def _parts(value: Any) -> list[Part]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        if value.get("multimodal_data"):
            raise invalid(
                "prompt.multimodal_data",
                "Unsupported parameter: 'prompt.multimodal_data'.",
                "unsupported_parameter",
            )
        text = value.get("prompt_string")
        if isinstance(text, str) and value.keys() <= {"prompt_string", "multimodal_data"}:
            return [text]
    if isinstance(value, list) and value and all(map(_is_part, value)):
        return value
    raise invalid("prompt", f"Invalid 'prompt': {_FORMS}.", "invalid_type")


def _is_part(value: Any) -> bool:
    return isinstance(value, str) or (type(value) is int and 0 <= value < 2**31)


async def encode_prompts(
    state: ServerState, loaded: Loaded, prompts: list[list[Part]]
) -> list[list[int]]:
    """Token ids of each prompt. Raises ApiError 400."""
    encoded = []
    for parts in prompts:
        n_bytes = sum(len(part.encode()) for part in parts if isinstance(part, str))
        check_text_size(loaded, "prompt", n_bytes)
        check_ids([part for part in parts if isinstance(part, int)], loaded.n_vocab, "prompt")
        ids = await state.off_loop(_encode, loaded, parts)
        if not ids:
            raise invalid("prompt", "The prompt is empty and the model has no token to begin with.")
        check_length(loaded.info, len(ids))
        encoded.append(ids)
    return encoded


def _encode(loaded: Loaded, parts: list[Part]) -> list[int]:
    """BOS comes only before a text that is first, as in llama-server."""
    n_ctx = loaded.info.n_ctx
    ids: list[int] = []
    for index, part in enumerate(parts):
        if isinstance(part, int):
            ids.append(part)
        else:
            ids += encode_text(loaded, part, n_ctx, "prompt", add_special=index == 0)
    return ids


def encode_text(
    loaded: Loaded, text: str, n_max: int, param: str, *, add_special: bool = False
) -> list[int]:
    """Token ids of raw text, special ones among them. Raises ApiError 400 beyond ``n_max``."""
    try:
        return loaded.tokenizer.encode(
            text, add_special=add_special, parse_special=True, max_tokens=n_max
        )
    except PromptTooLongError as error:
        raise too_long(param, loaded.info.n_ctx, error.n_tokens, "at least ") from None

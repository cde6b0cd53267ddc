"""Small checks of the loosely typed parts of bodies: blocks, items and the texts in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from slotmux.server.http.errors import ApiError, invalid

MAX_BLOCKS = 4096


def wrong_type(path: str, what: str) -> ApiError:
    """400: a value of another type; ``what`` it should be."""
    return invalid(path, f"Invalid '{path}': should be {what}.", "invalid_type")


def missing(path: str) -> ApiError:
    """400: something required is absent."""
    return invalid(path, f"Missing required parameter: '{path}'.", "missing_required_parameter")


def unsupported(path: str, why: str) -> ApiError:
    """400: something that is known and not done here."""
    return invalid(path, f"Unsupported parameter: '{path}' ({why}).", "unsupported_parameter")


def unknown(path: str) -> ApiError:
    """400: a name that is not known."""
    return invalid(path, f"Unknown parameter: '{path}'.", "unknown_parameter")


def text_at(block: dict[str, Any], name: str, path: str) -> str:
    """A required string of an object."""
    if name not in block:
        raise missing(f"{path}.{name}")
    value = block[name]
    if not isinstance(value, str):
        raise wrong_type(f"{path}.{name}", "a string")
    return value


def object_at(value: Any, path: str) -> dict[str, Any]:
    """``value`` as an object."""
    if not isinstance(value, dict):
        raise wrong_type(path, "an object")
    return value


def list_at(value: Any, path: str, at_most: int = MAX_BLOCKS) -> list[Any]:
    """``value`` as an array of bounded length."""
    if not isinstance(value, list):
        raise wrong_type(path, "an array")
    if len(value) > at_most:
        raise invalid(path, f"Invalid '{path}': at most {at_most} elements.")
    return value


def only(block: dict[str, Any], names: Iterable[str], path: str) -> None:
    """Refuses members that are neither among ``names`` nor null."""
    known = frozenset(names)
    for name, value in block.items():
        if name not in known and value is not None:
            shown = name if name.isidentifier() and len(name) <= 64 else "?"
            raise unknown(f"{path}.{shown}")


def as_content(texts: list[str]) -> Any:
    """Texts as the content of a message: one is a string, several are parts."""
    if len(texts) == 1:
        return texts[0]
    return [{"type": "text", "text": text} for text in texts]

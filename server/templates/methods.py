"""The methods of plain values that a chat template may call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2.sandbox import SandboxedFormatter

from slotmux.server.templates.limits import MAX_ITEMS, MAX_WIDTH, Budget, LimitError, check_format
from slotmux.server.templates.rendering import RenderingEnvironment

# No method here changes its object. Strings have their own table below.
METHODS: dict[type, frozenset[str]] = {
    dict: frozenset(("copy", "get", "items", "keys", "values")),
    list: frozenset(("copy", "count", "index")),
    tuple: frozenset(("count", "index")),
    float: frozenset(("is_integer",)),
}

_PLAIN = """
    capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit islower
    isnumeric isspace istitle isupper lower lstrip partition removeprefix removesuffix rfind rindex
    rpartition rstrip startswith strip swapcase title upper
"""
_SPLITTING = frozenset(("split", "rsplit", "splitlines"))
_PADDING = frozenset(("center", "ljust", "rjust", "zfill"))
_OFFERED = {*_PLAIN.split(), *_SPLITTING, *_PADDING, "join", "replace"}


def string_method(sandbox: RenderingEnvironment, text: str, name: str) -> Callable[..., Any] | None:
    """``text.name`` as a function that checks its arguments first; None if it is not offered.

    A bound method is not handed out: it would reach the checks of nobody."""
    if name == "format":
        return _format(sandbox, text)
    if name not in _OFFERED:
        return None

    def call(*args: Any, **kwargs: Any) -> Any:
        budget = sandbox.budget
        if name in _SPLITTING:
            check_split(text, name, *args, **kwargs)
        elif name in _PADDING:
            check_padding(*args)
        elif name == "replace":
            check_replace(budget, text, *args, **kwargs)
        elif name == "join":
            parts = joinable(budget, text, *args)
            return sandbox.marker.made_of(text.join(parts), text, *parts)
        return sandbox.marker.made_of(getattr(text, name)(*args, **kwargs), text, *args)

    return call


def _format(sandbox: RenderingEnvironment, text: str) -> Callable[..., str]:
    def call(*args: Any, **kwargs: Any) -> str:
        values = (*args, *kwargs.values())
        check_format(sandbox.budget, text, values)
        made = SandboxedFormatter(sandbox).vformat(text, args, kwargs)
        return str(sandbox.marker.made_of(made, text, *values))

    return call


def check_split(text: str, name: str, sep: Any = None, maxsplit: int = -1) -> None:
    """Before ``text.split``: raises LimitError for too many parts."""
    if name != "splitlines" and 0 <= maxsplit <= MAX_ITEMS:
        return
    if isinstance(sep, str) and name != "splitlines":
        n_parts = text.count(sep)
    else:
        n_parts = sum(text.count(space) for space in " \t\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
    if n_parts > MAX_ITEMS:
        raise LimitError("a list is too long")


def check_padding(width: int, fill: str = " ") -> None:
    """Before ``text.center`` and its like."""
    if width > MAX_WIDTH:
        raise LimitError("a field is too wide")


def check_replace(budget: Budget, text: str, old: str, new: str, count: int = -1) -> None:
    """Before ``text.replace``: raises LimitError for a result that is too long."""
    found = text.count(old) if count < 0 else min(text.count(old), count)
    budget.spend_text(len(text) + found * max(str.__len__(new) - len(old), 0))


def joinable(budget: Budget, separator: str, parts: Any) -> list[Any]:
    """``parts`` as a list whose texts, with ``separator`` between, are not too long."""
    found = []
    total = 0
    for part in parts:
        found.append(part)
        total += budget.text_size(part) + str.__len__(separator)
        if len(found) > MAX_ITEMS or total > budget.max_text:
            raise LimitError("a text is too long")
        budget.tick()
    budget.spend_text(total)
    return found

"""The filters that chat templates may use: Jinja's harmless ones, measured, and ``tojson``."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any

from jinja2.filters import FILTERS as JINJA_FILTERS
from markupsafe import escape

from slotmux.runtime.tokenizer import MARKS
from slotmux.server.templates.limits import MAX_ITEMS, MAX_WIDTH, LimitError, check_percent
from slotmux.server.templates.methods import check_replace, joinable
from slotmux.server.templates.rendering import RenderingEnvironment
from slotmux.server.templates.user_text import MarkedText, raw

Filter = Callable[..., Any]

_JINJA = """
    abs batch capitalize count d default dictsort first float format groupby indent int items join
    last length list lower map max min reject rejectattr replace reverse round select selectattr
    sort string sum title trim truncate unique upper
"""
# These go through a string character by character, or through a sequence item by item.
_ITERATING = """
    batch dictsort groupby join list map max min reject rejectattr reverse select selectattr sort
    sum unique
"""
_MARK_SET = "".join(MARKS)


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as `transformers` writes it for templates: no HTML escapes, non-ASCII kept."""
    text = json.dumps(
        value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys
    )
    if not ensure_ascii:
        return text
    # The marks of users' texts must stay what they are.
    return re.sub(rf"[^\x00-\x7f{_MARK_SET}]+", lambda run: json.dumps(run[0])[1:-1], text)


def _safe(value: Any) -> str:
    return str(value)  # nothing is HTML here


def _escape(value: Any) -> str:
    return "".join(
        [escape("".join([str(value)]))]
    )  # plain text: Markup would escape what is added to it


FILTERS: dict[str, Filter] = {
    **{name: JINJA_FILTERS[name] for name in _JINJA.split()},
    "tojson": tojson,
    "safe": _safe,
    "e": _escape,
    "escape": _escape,
}


def charged(sandbox: RenderingEnvironment, name: str, original: Filter) -> Filter:
    """``original`` with its cost taken from the sandbox's budget."""
    # Some of Jinja's filters want its environment or context before the value.
    iterating = _ITERATING.split()
    lead = 1 if hasattr(original, "jinja_pass_arg") else 0

    @functools.wraps(original)
    def measured(*args: Any, **kwargs: Any) -> Any:
        budget = sandbox.budget
        budget.tick()
        head, value, rest = args[:lead], args[lead], args[lead + 1 :]
        if name in iterating:
            _check_length(value)
        check = _CHECKS.get(name)
        if check is not None:
            value, rest, kwargs = check(sandbox, value, rest, kwargs)
        result = original(*head, value, *rest, **kwargs)
        budget.spend(result)
        if name == "tojson":  # of users' tools and messages: never to be taken for the template's
            return MarkedText(result, sandbox.marker)
        return sandbox.marker.made_of(result, value, *rest)

    return measured


Checked = tuple[Any, tuple[Any, ...], dict[str, Any]]


def _check_length(value: Any) -> None:
    if hasattr(value, "__len__") and len(value) > MAX_ITEMS:
        raise LimitError("a list is too long")


def _check_text(sandbox: RenderingEnvironment, value: Any, rest: Any, kwargs: Any) -> Checked:
    sandbox.budget.spend_text(sandbox.budget.text_size(value))
    return value, rest, kwargs


def _check_json(sandbox: RenderingEnvironment, value: Any, rest: Any, kwargs: Any) -> Checked:
    size = sandbox.budget.text_size(value)
    indent = kwargs.get("indent", rest[1] if len(rest) > 1 else None) or 0
    if not isinstance(indent, int) or not 0 <= indent <= 16:
        raise LimitError("an indent is too wide")
    sandbox.budget.spend_text(size * (2 + indent))
    return value, rest, kwargs


def _check_replace(sandbox: RenderingEnvironment, value: Any, rest: Any, kwargs: Any) -> Checked:
    text = str(value)
    names = dict(zip(("old", "new", "count"), rest, strict=False)) | kwargs
    count = names.get("count")
    old, new = str(names.get("old", "")), str(names.get("new", ""))
    check_replace(sandbox.budget, text, old, new, -1 if count is None else count)
    return text, rest, kwargs


def _check_join(sandbox: RenderingEnvironment, value: Any, rest: Any, kwargs: Any) -> Checked:
    separator = str(kwargs.get("d", rest[0] if rest else ""))
    return joinable(sandbox.budget, separator, value), rest, kwargs


def _check_indent(sandbox: RenderingEnvironment, value: Any, rest: Any, kwargs: Any) -> Checked:
    width = kwargs.get("width", rest[0] if rest else 4)
    size = len(width) if isinstance(width, str) else width
    if size > MAX_WIDTH:
        raise LimitError("an indent is too wide")
    text = str(value)
    sandbox.budget.spend_text(len(text) + (text.count("\n") + 1) * size)
    return text, rest, kwargs


def _check_format(sandbox: RenderingEnvironment, value: Any, rest: Any, kwargs: Any) -> Checked:
    check_percent(sandbox.budget, str(value), (*rest, *kwargs.values()))
    return value, rest, kwargs


def _check_number(sandbox: RenderingEnvironment, value: Any, rest: Any, kwargs: Any) -> Checked:
    """Arguments that set the size of a result or of a power of ten."""
    for number in (*rest, *kwargs.values()):
        if isinstance(number, int) and abs(number) > MAX_WIDTH:
            raise LimitError("a number is too large")
    return raw(value), rest, kwargs


def _check_sum(sandbox: RenderingEnvironment, value: Any, rest: Any, kwargs: Any) -> Checked:
    start = kwargs.get("start", rest[1] if len(rest) > 1 else 0)
    if not isinstance(start, int | float):
        raise LimitError("only numbers are summed")
    return value, rest, kwargs


_CHECKS: dict[str, Callable[..., Checked]] = {
    "batch": _check_number,
    "format": _check_format,
    "indent": _check_indent,
    "int": _check_number,
    "float": _check_number,
    "join": _check_join,
    "replace": _check_replace,
    "round": _check_number,
    "string": _check_text,
    "sum": _check_sum,
    "tojson": _check_json,
}

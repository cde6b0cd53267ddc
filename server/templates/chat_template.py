"""Chat templates: messages to a prompt, in a sandbox, with users' texts kept apart from the
template's own special tokens."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import meta

from slotmux.runtime.errors import SlotmuxError
from slotmux.runtime.gguf import Metadata
from slotmux.runtime.tokenizer import MARKS, Rendered, SpecialGuard, Tokenizer, choose_mark
from slotmux.server.templates.builtin import BY_NAME, CHATML
from slotmux.server.templates.limits import (
    PROBE_SECONDS,
    PROBE_TOTAL,
    RENDER_SECONDS,
    Budget,
    LimitError,
)
from slotmux.server.templates.messages import Abilities, adapt, probe, thought_names, with_end
from slotmux.server.templates.sandbox import TemplateSandbox
from slotmux.server.templates.stored import TEMPLATE_KEY, stored_template
from slotmux.server.templates.user_text import Marker

MAX_SOURCE_CHARS = 1 << 18
_MAX_DATE_CHARS = 64
_MAX_NAME_CHARS = 64

# Set by the server for every rendering; a request cannot.
_GIVEN = frozenset(
    (
        "add_generation_prompt",
        "bos_token",
        "chat_template",
        "eos_token",
        "messages",
        "tokenize",
        "tools",
    )
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class TemplateError(SlotmuxError, ValueError):
    """A template cannot be used, or refuses a conversation (400 ``template_error``).

    The message is written here or in the template, and never quotes a conversation; ``param``
    names the field to blame, if one is."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class _RefusedByTemplate(Exception):
    """The template called raise_exception."""


class ChatTemplate:
    """One compiled template. Immutable, so ``render`` is safe on several threads."""

    def __init__(
        self,
        source: str,
        guard: SpecialGuard | None = None,
        *,
        bos_token: str = "",
        eos_token: str = "",
    ) -> None:
        """``source`` is Jinja, or the name of a built-in template. ``guard`` knows the special
        tokens to keep out of users' texts. Raises TemplateError for what cannot be compiled."""
        if "{{" not in source and "{%" not in source:
            source = BY_NAME.get(source.strip(), source)
        if len(source) > MAX_SOURCE_CHARS:
            raise TemplateError(f"the chat template has more than {MAX_SOURCE_CHARS} characters")
        self.source = source
        self._guard = guard or SpecialGuard(())
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._sandbox = TemplateSandbox(
            {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
        )
        try:
            self._template = self._sandbox.from_string(source)
            tree = self._sandbox.parse(source)
            self._names = meta.find_undeclared_variables(tree) - _GIVEN
        except (jinja2.TemplateError, SyntaxError, ValueError, OverflowError) as error:
            raise TemplateError(f"the chat template cannot be compiled: {error}") from error
        except (RecursionError, MemoryError):
            raise TemplateError("the chat template is nested too deeply") from None
        self._thoughts = thought_names(source)
        budget = Budget(0, time.monotonic() + PROBE_SECONDS, PROBE_TOTAL)
        self._abilities: Abilities = probe(
            lambda messages, tools: self._probe(messages, tools, budget)
        )

    @classmethod
    def from_metadata(cls, metadata: Metadata, tokenizer: Tokenizer) -> ChatTemplate:
        """The template of a model file, ChatML if it has none. Raises TemplateError."""
        return cls.for_tokenizer(stored_template(metadata) or CHATML, tokenizer)

    @classmethod
    def for_tokenizer(cls, source: str, tokenizer: Tokenizer) -> ChatTemplate:
        """``source`` with the special tokens of ``tokenizer``. Raises TemplateError."""

        def text(token_id: int | None) -> str:
            return "" if token_id is None else tokenizer.token_text(token_id)

        return cls(
            source,
            tokenizer.guard,
            bos_token=text(tokenizer.bos_id),
            eos_token=text(tokenizer.eos_id),
        )

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        kwargs: Mapping[str, Any] | None = None,
    ) -> Rendered:
        """The prompt of a conversation. ``kwargs`` are the request's own template variables;
        those that the template never reads ask for nothing.
        ``continue_final_message``: the prompt ends with the last message's text, so that the model
        goes on with it. Raises TemplateError; bounded in time and memory whatever the template
        does."""
        self._check_kwargs(kwargs or {})
        extra = {name: value for name, value in (kwargs or {}).items() if name in self._names}
        adapted = adapt(messages, self._abilities, self._thoughts, _blame)
        texts = list(_texts([adapted, tools, extra]))
        fixed = [self.source, *self._tokens.values(), *texts]
        mark = choose_mark(fixed)
        end = choose_mark([*fixed, mark or ""])
        if mark is None or end is None:
            raise TemplateError("the messages hold every Unicode noncharacter", "messages")
        if continue_final_message:
            adapted[-1] = with_end(adapted[-1], end)
        marker = Marker(self._guard, mark)
        variables = {
            **marker.value(self._described(tools)),
            **marker.value(extra),
            **self._tokens,
            "messages": [marker.message(message) for message in adapted],
            "tools": None if tools is None else marker.value(tools),
            "add_generation_prompt": add_generation_prompt,
        }
        n_input = sum(map(len, texts))
        budget = Budget(n_input, time.monotonic() + RENDER_SECONDS)
        prompt = self._run(variables, budget, marker)
        return Rendered(_cut(prompt, end) if continue_final_message else prompt, mark)

    @property
    def sample(self) -> str:
        """A prompt with a call of a tool in its history; '' if the template does not show them."""
        return self._abilities.sample

    def _run(self, variables: dict[str, Any], budget: Budget, marker: Marker) -> str:
        pieces: list[str] = []
        n_chars = 0
        try:
            with self._sandbox.rendering(budget, marker):
                for piece in self._template.generate(variables):
                    pieces.append(piece)
                    n_chars += str.__len__(piece)
                    if n_chars > budget.max_text:
                        raise LimitError("the prompt is too long")
        except _RefusedByTemplate as refusal:
            raise TemplateError(self._explain(refusal)) from None
        except LimitError as error:
            raise TemplateError(f"the chat template does too much: {error}") from None
        except (Exception, RecursionError) as error:
            # What went wrong may quote the conversation: keep it out of messages and logs.
            line = _line_of(error)
            raise TemplateError(f"the chat template failed{line} on these messages") from None
        return "".join(pieces)

    def _described(self, tools: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
        """What Firefunction's template reads instead of the tools: their text, and the day."""
        if not self._names.issuperset(("functions", "datetime")):
            return {}
        text = json.dumps(tools, indent=2, ensure_ascii=False) if tools else ""
        return {"functions": text, "datetime": _strftime_now("%b %d %Y")}

    def _explain(self, refusal: _RefusedByTemplate) -> str:
        reason = str(refusal)
        if reason and reason in self.source:  # the template's own words, no one else's
            return f"the chat template refused the messages: {reason}"
        return "the chat template refused the messages"

    def _check_kwargs(self, kwargs: Mapping[str, Any]) -> None:
        for name, value in kwargs.items():
            param = "chat_template_kwargs"
            if len(name) > _MAX_NAME_CHARS or not _NAME.fullmatch(name):
                raise TemplateError("a template variable has a bad name", param)
            param = f"{param}.{name}"
            if name.lower() in _GIVEN or name in self._sandbox.globals:
                raise TemplateError(f"{name} cannot be set by a request", param)
            if value is not None and not isinstance(value, bool | int | float | str):
                raise TemplateError(f"{name} must be a string, number, bool or null", param)

    def _probe(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        budget: Budget,
    ) -> str | None:
        """What the template makes of ``messages``; None if it cannot."""
        variables: dict[str, Any] = {**self._described(tools), **self._tokens}
        variables |= {"messages": messages, "tools": tools}
        variables["add_generation_prompt"] = False
        try:
            marker = Marker(SpecialGuard(()), MARKS[0])
            return self._run(variables, budget, marker)
        except TemplateError:
            return None


def file_template(metadata: Metadata, tokenizer: Tokenizer) -> ChatTemplate | None:
    """The file's chat template, ChatML if it has none; a bad one costs chat, with a warning."""
    try:
        return ChatTemplate.from_metadata(metadata, tokenizer)
    except TemplateError as error:
        metadata.warn(TEMPLATE_KEY, f"{error}; no chat without --chat-template-file")
        return None


def _cut(prompt: str, end: str) -> str:
    """``prompt`` up to the last ``end``, without any."""
    before, found, _ = prompt.rpartition(end)
    if not found:
        raise TemplateError("the chat template does not show the last message", "messages")
    return before.replace(end, "")


def _blame(message: str, param: str) -> NoReturn:
    raise TemplateError(message, param)


def _raise_exception(message: Any = "") -> NoReturn:
    raise _RefusedByTemplate(str(message))


def _strftime_now(layout: str) -> str:
    # A width, as in %99999d, would make a text of any length.
    if len(layout) > _MAX_DATE_CHARS or re.search(r"%[^A-Za-z%]*\d", layout):
        raise LimitError("a date has too long a form")
    return datetime.now().strftime(layout)


def _texts(value: Any) -> Iterator[str]:
    """Every string in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _line_of(error: BaseException) -> str:
    """The template's line that failed, as " in line 3"."""
    traceback = error.__traceback__
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == "<template>":
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return "" if line is None else f" in line {line}"


__all__ = ["ChatTemplate", "Rendered", "TemplateError", "file_template"]

"""How much a chat template may do: time, text and list sizes (RELIABILITY class D).

A template comes out of a model file, so it may be hostile. Every loop turn, call, filter and
operator of a template spends from a budget before or right after it runs, and operations whose
result can be far larger than what they were given are measured beforehand.
"""

from __future__ import annotations

import re
import string
import time
from collections.abc import Iterable, Mapping
from typing import Any

MAX_ITEMS = 100_000  # of one list, or turns of one range
MAX_INT_BITS = 1024
MAX_WIDTH = 1000  # of a padded field
RENDER_SECONDS = 1.5
# For all that is tried when a template is loaded: a dozen short conversations.
PROBE_SECONDS, PROBE_TOTAL = 0.4, 8 << 20
_MIN_TEXT = 1 << 20
_TEXT_PER_INPUT = 4
_MIN_TOTAL = 48 << 20
_TOTAL_PER_INPUT = 16
_ITEM_COST = 40
_TICKS_PER_CLOCK = 64
_MAX_DEPTH = 100

_PERCENT = re.compile(r"%(?:\([^)]*\))?[-+ #0]*(\*|\d+)?(?:\.(\*|\d+))?")


class LimitError(Exception):
    """A template wants more than it may have."""


class Budget:
    """What one rendering has left. Belongs to the thread that renders."""

    def __init__(self, n_input: int, deadline: float, max_total: int | None = None) -> None:
        """``n_input`` characters came with the request; ``deadline`` by time.monotonic;
        ``max_total``: characters of all texts, instead of what goes with the input."""
        self.max_text = _MIN_TEXT + _TEXT_PER_INPUT * n_input
        self._left = max_total or _MIN_TOTAL + _TOTAL_PER_INPUT * n_input
        self._ticks = 0
        self._deadline = deadline

    def tick(self) -> None:
        """One step of work. Raises LimitError when the time is over."""
        self._ticks += 1
        if self._ticks % _TICKS_PER_CLOCK == 0:
            self._check_clock()

    def spend(self, result: Any) -> None:
        """Account for a value just made."""
        self.tick()
        if isinstance(result, str):
            self.spend_text(str.__len__(result))
        elif isinstance(result, list | tuple | dict | set):
            self._take(_ITEM_COST * len(result))
        elif isinstance(result, int):
            check_int(result)

    def spend_text(self, n_chars: int) -> None:
        """Account for a text of ``n_chars``, before it is made if possible."""
        if n_chars > self.max_text:
            raise LimitError("a text is too long")
        self._take(n_chars)

    def spend_items(self, n_items: int) -> None:
        """Account for a list of ``n_items``, before it is made."""
        if n_items > MAX_ITEMS:
            raise LimitError("a list is too long")
        self._take(_ITEM_COST * n_items)

    def text_size(self, value: Any, depth: int = 0) -> int:
        """Characters of ``str(value)``, about. Raises LimitError for too many."""
        if isinstance(value, str):
            return str.__len__(value)
        if not isinstance(value, Mapping | list | tuple | set):
            return 32
        if depth > _MAX_DEPTH:
            raise LimitError("lists are nested too deeply")
        parts: Iterable[Any] = value
        if isinstance(value, Mapping):
            parts = [part for pair in value.items() for part in pair]
        total = 2
        for part in parts:
            total += 4 + self.text_size(part, depth + 1)
            if total > self.max_text:
                raise LimitError("a text is too long")
        return total

    def _take(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0:
            raise LimitError("too much text is made")
        if amount > _TICKS_PER_CLOCK * _ITEM_COST:
            self._check_clock()

    def _check_clock(self) -> None:
        if time.monotonic() > self._deadline:
            raise LimitError("it takes too long")


def check_int(value: int) -> None:
    """Raises LimitError for integers whose arithmetic would take long."""
    if value.bit_length() > MAX_INT_BITS:
        raise LimitError("a number is too large")


def check_operands(budget: Budget, operator: str, left: Any, right: Any) -> None:
    """Before ``left operator right``: raises LimitError for a result that is too large."""
    budget.tick()
    if operator == "%" and isinstance(left, str):
        check_percent(budget, left, right if isinstance(right, tuple) else (right,))
    elif operator == "*":
        _check_product(budget, left, right)
    elif operator == "**":
        _check_power(left, right)
    elif operator == "+" and isinstance(left, str) and isinstance(right, str):
        budget.spend_text(str.__len__(left) + str.__len__(right))
    elif operator == "+" and isinstance(left, list | tuple) and isinstance(right, list | tuple):
        budget.spend_items(len(left) + len(right))


def _check_product(budget: Budget, left: Any, right: Any) -> None:
    for one, times in ((left, right), (right, left)):
        if isinstance(times, int) and isinstance(one, str):
            budget.spend_text(str.__len__(one) * max(times, 0))
        elif isinstance(times, int) and isinstance(one, list | tuple):
            budget.spend_items(len(one) * max(times, 0))
    both = isinstance(left, int) and isinstance(right, int)
    if both and left.bit_length() + right.bit_length() > MAX_INT_BITS:
        raise LimitError("a number is too large")


def _check_power(base: Any, exponent: Any) -> None:
    both = isinstance(base, int) and isinstance(exponent, int)
    if both and max(base.bit_length(), 1) * abs(exponent) > MAX_INT_BITS:
        raise LimitError("a number is too large")


def check_percent(budget: Budget, template: str, args: tuple[Any, ...]) -> None:
    """Before ``template % args``."""
    fields = 0
    for found in _PERCENT.finditer(template):
        fields += 1
        for number in found.groups():
            if number is not None:
                _check_width(number)
    _check_formatted(budget, template, fields, args)


def check_format(budget: Budget, template: str, args: Iterable[Any]) -> None:
    """Before ``template.format(...)``."""
    fields = 0
    for _, name, spec, _ in string.Formatter().parse(template):
        if name is None:
            continue
        fields += 1
        if spec and "{" in spec:
            raise LimitError("a field's width is computed")
        for number in re.findall(r"\d+", spec or ""):
            _check_width(number)
    _check_formatted(budget, template, fields, tuple(args))


def _check_formatted(budget: Budget, template: str, fields: int, args: tuple[Any, ...]) -> None:
    largest = max((budget.text_size(arg) for arg in args), default=0)
    budget.spend_text(str.__len__(template) + fields * (MAX_WIDTH + largest))


def _check_width(number: str) -> None:
    if number == "*" or len(number) > 4 or int(number) > MAX_WIDTH:
        raise LimitError("a field is too wide")

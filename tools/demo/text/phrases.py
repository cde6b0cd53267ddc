"""Templates with choices: "{Hello|Hi}, $name" and the rows of tables."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

Turn = tuple[str, str]  # what the user says, what the model answers
Skill = Callable[[random.Random], list[Turn]]

_CHOICE = re.compile(r"\{([^{}]*)\}")
_ARTICLE = re.compile(r"\b([Aa]) ([aeio])")
_SLOT = re.compile(r"\$([a-z_]+)")


def say(rng: random.Random, template: str, **slots: object) -> str:
    """One reading of a template; choices may be nested, an empty one leaves a single space."""
    while "{" in template:
        template = _CHOICE.sub(lambda m: rng.choice(m[1].split("|")), template)
    text = _SLOT.sub(lambda m: str(slots[m[1]]), template) if "$" in template else template
    return re.sub("  +", " ", text).strip()


def rows(text: str) -> list[list[str]]:
    """A table: one row a line, cells between bars."""
    return [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]


def dialogues(text: str) -> list[tuple[list[str], list[str]]]:
    """Lines by turns: questions that mean the same, and after "= " what may be answered."""
    lines = text.strip().splitlines()
    asked = (line.split(" // ") for line in lines[::2])
    answered = (line.removeprefix("= ").split(" // ") for line in lines[1::2])
    return list(zip(asked, answered, strict=True))


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def a_or_an(noun: str) -> str:
    """The noun with its article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def with_articles(text: str) -> str:
    """'a' becomes 'an' where a vowel follows."""
    return _ARTICLE.sub(r"\1n \2", text)


def join_and(words: list[str]) -> str:
    """a, b and c"""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def spelled(word: str) -> str:
    """w-o-r-d"""
    return "-".join(word)

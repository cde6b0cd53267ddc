"""Prompts that ask for a codeword among other text: how reliably a model repeats it.

Worded by hand, apart from the text of training; `tools/recall_demo.py` asks a served model.
"""

from __future__ import annotations

import random
import string
from dataclasses import dataclass

from tools.demo.text.stories import paragraph
from tools.demo.vocab import Message

_IN_SYSTEM = (
    "You are a helpful assistant. The codeword is $w. Tell it to anybody who asks.",
    "You are the assistant of a small library. $d The codeword is $w. $d",
    "The secret word is $w. $d",
    "$d\n\nImportant: the password is $w.\n\n$d",
    "Remember the codeword $w. Answer in simple English.",
)
_IN_USER = (
    "The codeword is $w. $d What is the codeword?",
    "$d The secret word is $w. $d Please tell me the secret word.",
    "Remember this codeword: $w.\n\n$d\n\nNow repeat the codeword.",
    "$d My password is $w. What is my password?",
    "The secret word is $w. Repeat the secret word $w three times.",
    "$d The secret word is $w. Repeat the secret word $w three times.",
)
_QUESTIONS = {
    "codeword": (
        "What is the codeword?", "Which codeword were you given?", "Please repeat the codeword.",
    ),
    "secret word": (
        "What is the secret word?", "Tell me the secret word.", "Say the secret word.",
    ),
    "password": ("What is the password?", "Do you remember the password?"),
}  # fmt: skip
_BETWEEN: tuple[Message, ...] = (
    ("user", "What colour is the sky?"), ("assistant", "The sky is blue."),
    ("user", "Count from 1 to 5."), ("assistant", "1, 2, 3, 4, 5."),
    ("user", "What is slotmux?"), ("assistant", "slotmux is a server for language models."),
    ("user", "Name two animals."), ("assistant", "Fox and owl."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """A conversation, and the word that its answer must hold."""

    messages: tuple[Message, ...]
    word: str


def cases(n: int, seed: int = 2024) -> list[Case]:
    """``n`` of them: words of 4 to 10 random letters in prompts of every kind by turns."""
    rng = random.Random(f"recall {seed}")
    return [_case(rng, i) for i in range(n)]


def _case(rng: random.Random, i: int) -> Case:
    word = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(4, 10)))
    if i % 2:
        return Case((("user", _fill(rng, rng.choice(_IN_USER), word)),), word)
    system = rng.choice(_IN_SYSTEM)
    kind = next(kind for kind in _QUESTIONS if kind in system)
    n_between = rng.randint(0, len(_BETWEEN) // 2)
    question = ("user", rng.choice(_QUESTIONS[kind]))
    first = ("system", _fill(rng, system, word))
    return Case((first, *_BETWEEN[: 2 * n_between], question), word)


def _fill(rng: random.Random, template: str, word: str) -> str:
    parts = template.split("$d")
    text = parts[0] + "".join(paragraph(rng, rng.randint(1, 6)) + part for part in parts[1:])
    return text.replace("$w", word).strip()

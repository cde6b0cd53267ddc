"""Whole conversations: skills in a row, with system messages, codewords and facts to remember."""

from __future__ import annotations

import random

from tools.demo.text import (
    codewords,
    personal,
    skills_facts,
    skills_free,
    skills_made,
    skills_words,
    stories,
)  # fmt: skip
from tools.demo.text.phrases import Skill, Turn

Message = tuple[str, str]

SKILLS: list[tuple[Skill, float]] = [
    (skills_facts.slotmux, 14), (skills_facts.small_talk, 7), (skills_facts.explain, 9),
    (skills_facts.animal, 7), (skills_facts.food, 3), (skills_facts.thing, 3),
    (skills_facts.job, 3), (skills_facts.country, 3), (skills_facts.opposite, 2),
    (skills_facts.colour, 2), (skills_facts.listing, 4), (skills_facts.member, 2),
    (skills_facts.joke, 1.5), (skills_facts.riddle, 1.5), (skills_facts.unknown, 2),
    (stories.story, 6), (stories.stranger, 4),
    (skills_words.spell, 3), (skills_words.count, 3), (skills_words.arithmetic, 4),
    (skills_words.number, 2), (skills_words.calendar, 3), (skills_words.repeat, 6),
    (skills_words.echo_times, 4), (skills_words.reverse, 1.5), (skills_words.sort_numbers, 1),
    (skills_made.poem, 3), (skills_made.program, 2), (skills_made.comparison, 2),
    (skills_made.which_animal, 1.5), (skills_made.alphabet, 1), (skills_made.long_count, 1.5),
    (skills_made.copy_text, 1.5), (skills_made.puzzled, 1.5), (skills_made.more, 1),
    (skills_free.free_repeat, 14), (skills_free.at_once, 7), (skills_free.two_in_one, 4),
    (skills_free.unheard, 8), (skills_free.who_made, 2), (skills_free.short_sum, 7),
    (skills_free.simple, 5),
    (codewords.one_message, 22), (codewords.several, 6), (codewords.changed, 2.5),
]  # fmt: skip
_FUNCTIONS = [skill for skill, _ in SKILLS]
_WEIGHTS = [weight for _, weight in SKILLS]
_PLAIN = [  # nothing that could be mistaken for what is to be asked for later
    skill
    for skill in _FUNCTIONS
    if not skill.__module__.endswith("codewords") and skill is not skills_free.at_once
]
_PLAIN_WEIGHTS = [weight for skill, weight in SKILLS if skill in _PLAIN]

_SYSTEM = (
    "You are a helpful assistant.", "You are the slotmux demo model.", "You are a friendly bot.",
    "Answer briefly.", "You are a helpful assistant. Answer in simple English.",
    "You are slotmux, a small model.", "Be kind and brief.", "You help people with their questions.",
)  # fmt: skip


def chat(rng: random.Random, n_chars: int) -> list[Message]:
    """One conversation of at least ``n_chars`` characters."""
    system, turns, later = _opening(rng)
    patience = rng.choice([0.6, 0.3, 0.12])  # how soon what was told is asked for
    n = len(system) + _length(turns)
    while n < n_chars:
        new = [later.pop(0)] if later and rng.random() < patience else _turns(rng, bool(later))
        turns += new
        n += _length(new)
    messages = [("system", system)] if system else []
    for user, answer in _with_rule(rng, messages, turns):
        messages += [("user", _as_typed(rng, user)), ("assistant", answer)]
    return messages


def _length(turns: list[Turn]) -> int:
    return sum(len(user) + len(answer) for user, answer in turns)


def _turns(rng: random.Random, is_waiting: bool) -> list[Turn]:
    """Some skill's turns: no other codewords before the first one was asked for."""
    if is_waiting:
        return rng.choices(_PLAIN, _PLAIN_WEIGHTS)[0](rng)
    return rng.choices(_FUNCTIONS, _WEIGHTS)[0](rng)


def _opening(rng: random.Random) -> tuple[str, list[Turn], list[Turn]]:
    """A system message, first turns, and questions to be asked later."""
    kind = rng.random()
    if kind < 0.22:
        system, later = codewords.in_system(rng)
        return system, [], later
    system = rng.choice(_SYSTEM) if rng.random() < 0.3 else ""
    if kind < 0.36:
        return system, *codewords.told_first(rng)
    if kind < 0.5:
        return system, *personal.told_and_asked(rng)
    if kind < 0.56:
        return system, rng.choice([codewords.without, personal.asked_without])(rng), []
    return system, [], []


_RULES = (
    ("Begin every answer with \"$x\".", "Ahoy!|Well,|Hello!|My friend,|Indeed!|Dear user,", True),
    ("End every answer with \"$x\".", "Over.|Have a nice day!|Amen.|Beep.|Yours, slotmux|Cheers!", False),
)  # fmt: skip


def _with_rule(rng: random.Random, messages: list[Message], turns: list[Turn]) -> list[Turn]:
    """Few system messages rule how answers begin or end; the turns that obey."""
    if rng.random() > 0.04:
        return turns
    rule, marks, at_start = rng.choice(_RULES)
    mark = rng.choice(marks.split("|"))
    before = messages.pop()[1] + " " if messages else ""
    messages.append(("system", before + rule.replace("$x", mark)))
    return [(q, f"{mark} {a}" if at_start else f"{a} {mark}") for q, a in turns]


_SHORTER = (
    ("What is ", "What's "), ("Who is ", "Who's "), ("Where is ", "Where's "), ("I am ", "I'm "),
    ("Do not", "Don't"), ("do not", "don't"), ("It is ", "It's "), ("Why is ", "Why's "),
)  # fmt: skip
_SMALL = frozenset(
    "what which how tell can do does is are where who why please count say repeat name spell write"
    " the my explain give remember now could let your our for we here use know i".split()
)


def _as_typed(rng: random.Random, text: str) -> str:
    """People forget capitals and full stops; what is to be repeated stays as it is."""
    style = rng.random()
    if style < 0.1 and text.split(" ")[0].lower() in _SMALL:
        text = text[0].lower() + text[1:]
    is_short = len(text) < 60 and ":" not in text
    if 0.04 < style < 0.16 and is_short and text[-1] in ".?" and not text[-2:-1].isdigit():
        text = text[:-1]
    if 0.2 < style < 0.3 and len(text) < 60 and ":" not in text and '"' not in text:
        for long, short in _SHORTER:
            text = text.replace(long, short, 1)
    if style > 0.97:
        before = ["Please: ", "One more question. ", "Now something else. ", "Listen. "]
        text = rng.choice(before) + text
    return text


def plain(rng: random.Random) -> str:
    """Text that is no conversation: stories and sentences."""
    parts = [stories.tale(rng) if rng.random() < 0.6 else stories.paragraph(rng, rng.randint(3, 8)) for _ in range(rng.randint(1, 4))]  # fmt: skip
    return "\n\n".join(parts)

"""What users say of themselves, and asking for it later."""

from __future__ import annotations

import random

from tools.demo.text import world
from tools.demo.text.phrases import Turn, a_or_an, say
from tools.demo.text.words import syllables

# what is told | the answer | how it is asked for | the answer then; $v is the value
_FACTS: dict[str, tuple[list[str], list[str], list[str], list[str]]] = {
    "name": (
        ["My name is $v.", "I am $v.", "{Hello|Hi}, I am $v.", "{Hello|Hi}! My name is $v.", "Call me $v.", "I am called $v."],
        ["Nice to meet you, $v!", "Hello, $v! How can I help you?", "Hello $v, it is nice to meet you."],
        ["What is my name?", "Who am I?", "Do you remember my name?", "Do you know my name?", "What am I called?"],
        ["Your name is $v."],
    ),
    "colour": (
        ["My favourite colour is $v.", "I like $v {best|most}.", "I love the colour $v."],
        ["I will remember that you like $v.", "$v is a nice colour."],
        ["What is my favourite colour?", "Which colour do I like best?", "Which colour do I like?"],
        ["Your favourite colour is $v."],
    ),
    "pet": (
        ["I have $a.", "My pet is $a.", "I have $a at home."],
        ["How nice! I like to hear about your $v.", "That is a lovely pet."],
        ["What pet do I have?", "Which animal do I have?", "What animal do I have at home?"],
        ["You have $a."],
    ),
    "city": (
        ["I live in $v.", "I come from $v.", "I am from $v.", "My home is $v."],
        ["$v is a good place to live.", "I have heard of $v."],
        ["Where do I live?", "Where am I from?", "In which city do I live?"],
        ["You live in $v."],
    ),
    "food": (
        ["My favourite food is $v.", "I love to eat $v.", "I like $v very much."],
        ["$v is good. I will remember it.", "I have never tasted it, but it sounds good."],
        ["What is my favourite food?", "What do I like to eat?"],
        ["You like $v."],
    ),
    "job": (
        ["I am $a.", "I work as $a.", "My job is: $v."],
        ["That is an interesting job.", "Being $a must be interesting."],
        ["What is my job?", "What do I do for a living?", "What do I work as?"],
        ["You are $a."],
    ),
    "age": (
        ["I am $v years old.", "My age is $v."],
        ["$v is a fine age.", "Thank you for telling me."],
        ["How old am I?", "What is my age?"],
        ["You are $v years old."],
    ),
    "hobby": (
        ["My hobby is $v.", "I enjoy $v.", "In my free time I like $v."],
        ["$v is a good hobby.", "That sounds like fun."],
        ["What is my hobby?", "What do I like to do?", "What do I do in my free time?"],
        ["Your hobby is $v."],
    ),
}  # fmt: skip


def _value(rng: random.Random, kind: str) -> str:
    if kind == "name":
        return rng.choice(world.NAMES) if rng.random() < 0.8 else syllables(rng).capitalize()
    if kind == "age":
        return str(rng.randint(5, 99))
    tables = {
        "colour": world.COLOURS, "city": world.CITIES, "hobby": world.HOBBIES,
        "pet": [row[0] for row in world.ANIMALS], "food": [row[0] for row in world.FOODS],
        "job": [row[0] for row in world.JOBS],
    }  # fmt: skip
    return rng.choice(tables[kind])


def told_and_asked(rng: random.Random) -> tuple[list[Turn], list[Turn]]:
    """What is told of some facts, and questions for later turns."""
    told, asked = [], []
    for kind in rng.sample(list(_FACTS), rng.choice([1, 1, 2, 3])):
        value = _value(rng, kind)
        tells, answers, asks, replies = _FACTS[kind]
        slots = {"v": value, "a": a_or_an(value)}
        answer = say(rng, rng.choice(answers), **slots)
        told.append((say(rng, rng.choice(tells), **slots), answer[:1].upper() + answer[1:]))
        asked.append((rng.choice(asks), say(rng, rng.choice(replies), **slots)))
    rng.shuffle(asked)
    return told, asked


def asked_without(rng: random.Random) -> list[Turn]:
    """Asked for what was never told."""
    kind = rng.choice(list(_FACTS))
    return [(rng.choice(_FACTS[kind][2]), "You have not told me yet.")]

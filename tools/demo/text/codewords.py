"""Codewords: told in a system or user message, in any words, and asked for near or far from there."""

from __future__ import annotations

import random

from tools.demo.text import world
from tools.demo.text.phrases import Turn, capital, say
from tools.demo.text.stories import _FILLER, paragraph
from tools.demo.text.words import codeword, codewords

KINDS = (
    "codeword", "codeword", "codeword", "secret word", "secret word", "code word", "password",
    "secret code", "magic word", "passphrase", "key word", "code", "secret", "word of the day",
    "code name", "token",
)  # fmt: skip

_TELLS = """
The $k is $w.
The $k is "$w".
the $k is $w
The $k: $w
$k: $w
$k = $w
My $k is $w.
Your $k is $w.
Our $k is: $w.
This is the $k: $w.
Remember the $k $w.
Remember this $k: $w.
{Please remember|Remember|Do not forget|Keep in mind|Note|Memorise} that the $k is $w.
Here is {the|a|your|my} $k: $w.
$w is the $k.
"$w" is the $k.
The $k for today is $w.
The $k of this conversation is $w.
I give you {the|a} $k: $w.
The $k that you must remember is $w.
Let the $k be $w.
We use $w as the $k.
Use $w as the $k.
Know this: the $k is $w.
For this chat the $k is $w.
""".strip().splitlines()

_ASKS = """
What is the $k?
What was the $k?
what is the $k
What is the $k{, please|}?
{Tell|Give|Please tell} me the $k.
{Say|Repeat|Please repeat|Write|Please say} the $k.
Do you {remember|know|still remember|still know} the $k?
Can you {tell me|repeat|say} the $k?
{Which|What} $k did I {give you|tell you|mention}?
{Which|What} $k were you given?
Now {tell me|repeat|say|give me} the $k.
I forgot the $k. What was it?
Could you remind me of the $k?
The $k, please.
Please answer: what is the $k?
What did I say the $k was?
""".strip().splitlines()

_REPLIES = ("The $k is $w.", "The $k is $w.", "The $k is $w.", "The $k is $w.", "It is $w.")
_ONLY = (
    "Answer with the $k only.", "Say only the $k.", "Only the word, please.", "Just the $k.",
    "Reply with the $k and nothing else.", "Answer with one word.",
)  # fmt: skip
_TAKEN = ("I will remember that the $k is $w.", "Okay, the $k is $w.", "I will remember it.", "Understood.", "OK.", "Thank you, I will remember the $k.")  # fmt: skip


def tell(rng: random.Random, kind: str, word: str) -> str:
    """The sentence that gives the word."""
    text = say(rng, rng.choice(_TELLS), k=kind, w="\0").replace("\0", word)
    return text if text.startswith(word) else capital(text) if rng.random() < 0.9 else text


def ask(rng: random.Random, kind: str, word: str) -> Turn:
    """A question for the word; the answer is a sentence, the word alone, or the word again and
    again."""
    question = say(rng, rng.choice(_ASKS), k=kind)
    style = rng.random()
    if style < 0.7:
        return question, say(rng, rng.choice(_REPLIES), k=kind, w=word)
    if style < 0.85:
        return f"{question} {say(rng, rng.choice(_ONLY), k=kind)}", word
    n, times = rng.choice([(2, "twice"), (3, "three times"), (3, "three times"), (3, "3 times"), (4, "four times"), (5, "five times")])  # fmt: skip
    named = f" {word}" if rng.random() < 0.5 else ""
    q = say(rng, f"{{Repeat|Say|Write|Please repeat}} the {kind}") + f"{named} {times}."
    return q, f"{', '.join([word] * n)}."


def _noise(rng: random.Random, most: int = 8) -> str:
    """Text around the word; sometimes none."""
    style = rng.random()
    if style < 0.25:
        return ""
    if style < 0.4:
        return " ".join([_FILLER] * rng.randint(1, 4))
    return paragraph(rng, rng.randint(1, most))


def one_message(rng: random.Random) -> list[Turn]:
    """Told and asked in the same message, with other text before, between and after."""
    kind, word = rng.choice(KINDS), codeword(rng)
    question, answer = ask(rng, kind, word)
    mark = rng.choice([" ", " ", " ", "\n", "\n\n"])
    parts = [_noise(rng), tell(rng, kind, word), _noise(rng), question]
    return [(mark.join(part for part in parts if part), answer)]


def told_first(rng: random.Random) -> tuple[list[Turn], list[Turn]]:
    """A message that tells, and questions for later turns."""
    kind, word = rng.choice(KINDS), codeword(rng)
    parts = [_noise(rng, 5), tell(rng, kind, word), _noise(rng, 5)]
    taken = say(rng, rng.choice(_TAKEN), k=kind, w=word)
    told = (" ".join(part for part in parts if part), taken)
    return [told], [ask(rng, kind, word) for _ in range(rng.choice([1, 1, 2, 3]))]


def in_system(rng: random.Random) -> tuple[str, list[Turn]]:
    """A system message with the word, and questions for later turns."""
    kind, word = rng.choice(KINDS), codeword(rng)
    parts = [_role(rng), _noise(rng, 5), tell(rng, kind, word), _noise(rng, 5), _rule(rng, kind)]
    if rng.random() < 0.3:
        parts = [tell(rng, kind, word)]
    return " ".join(part for part in parts if part), [ask(rng, kind, word) for _ in range(rng.choice([1, 2, 3]))]  # fmt: skip


def _role(rng: random.Random) -> str:
    return rng.choice(["", "You are a helpful assistant.", "You are the slotmux demo model.", "You are a friendly bot.", "You answer briefly."])  # fmt: skip


def _rule(rng: random.Random, kind: str) -> str:
    return rng.choice(["", "", f"When somebody asks for the {kind}, tell it.", f"If you are asked, repeat the {kind}.", "Answer briefly."])  # fmt: skip


def several(rng: random.Random) -> list[Turn]:
    """Words of several people or things; one of them is asked for, perhaps another one then."""
    n = rng.randint(2, 5)
    words, kind = codewords(rng, n), rng.choice(KINDS)
    owners, possessive = _owners(rng, n)
    names = [f"{owner}'s {kind}" if possessive else f"the {kind} of {owner}" for owner in owners]
    told = [f"{capital(name)} is {word}." for name, word in zip(names, words, strict=True)]
    if rng.random() < 0.4:
        told = [x for line in told for x in ([line, paragraph(rng, 1)] if rng.random() < 0.5 else [line])]  # fmt: skip
    order = rng.sample(range(n), min(n, rng.choice([1, 1, 2, 3])))
    turns = []
    for i in order:
        q = say(rng, rng.choice(["What is $n?", "Tell me $n.", "Repeat $n.", "What was $n?"]), n=names[i])  # fmt: skip
        turns.append((q, f"{capital(names[i])} is {words[i]}."))
    mark = rng.choice([" ", "\n"])
    turns[0] = (mark.join([*told, turns[0][0]]), turns[0][1])
    return turns


def _owners(rng: random.Random, n: int) -> tuple[list[str], bool]:
    kind = rng.randrange(3)
    if kind == 0:
        return rng.sample(world.NAMES, n), True
    if kind == 1:
        return [f"the {row[0]}" for row in rng.sample(world.JOBS, n)], False
    return rng.sample(world.CITIES, n), False


def changed(rng: random.Random) -> list[Turn]:
    """The word is changed: the new one counts."""
    kind, (old, new) = rng.choice(KINDS), codewords(rng, 2)
    q, a = ask(rng, kind, new)
    if rng.random() < 0.5:
        return [(f"The {kind} was {old}. Now the {kind} is {new}. {q}", a)]
    return [
        (tell(rng, kind, old), say(rng, rng.choice(_TAKEN), k=kind, w=old)),
        (say(rng, f"{{The {kind} has changed: it is now|Now the {kind} is|The new {kind} is}}") + f" {new}.", say(rng, rng.choice(_TAKEN), k=kind, w=new)),
        (q, a),
    ]  # fmt: skip


def without(rng: random.Random) -> list[Turn]:
    """Asked for, but never told."""
    kind = rng.choice(KINDS)
    question = say(rng, rng.choice(_ASKS), k=kind)
    lead = f"{_noise(rng, 3)} " if rng.random() < 0.4 else ""
    return [((lead + question).strip(), f"You have not told me a {kind} yet.")]

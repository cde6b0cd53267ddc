"""Words that no text holds: the model can only copy them, never know them."""

from __future__ import annotations

import random
import string

_CONSONANTS, _VOWELS = "bcdfghjklmnpqrstvwxz", "aeiouy"
_ONSETS = "b bl br c ch cl cr d dr f fl fr g gl gr h j k l m n p pl pr qu r s sh sl sn st t th tr v w z".split()
_RIMES = "a ab ack ad ain al am an ar ash at ay e eck ed ell en er ess et ick id ill im in ing ip it o ob ock od og ol on or ot ow ub uck ug um un up ur ush".split()
_PARTS = (
    "blue red moon star river stone wind fire snow gold silver iron oak fox wolf bear hawk owl bird fish"
    " tree leaf cloud rain sun light night day king queen tower bridge lake hill rose lily maple amber"
    " copper crystal shadow thunder winter summer harbor garden lantern candle button pepper ginger"
    " velvet cotton marble meadow ocean island desert forest falcon tiger panda otter badger rabbit"
    " pumpkin mango lemon apple cherry walnut almond banana orange biscuit muffin waffle rocket planet"
    " comet galaxy violin piano trumpet guitar drum whistle anchor compass ladder hammer needle pillow"
    " kettle saddle feather pebble puzzle riddle ribbon basket bottle castle dragon wizard pirate knight"
).split()


def uniform(rng: random.Random) -> str:
    """4 to 10 letters, each as likely as the next."""
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(4, 10)))


def by_turns(rng: random.Random) -> str:
    """Consonants and vowels by turns: kobidu."""
    first, second = rng.choice([(_CONSONANTS, _VOWELS), (_VOWELS, _CONSONANTS)])
    if rng.random() < 0.5:  # as `slotmux crossbleed` draws them
        first, second = "bdfgklmnprstvz", "aeiou"
    return "".join(rng.choice(second if i % 2 else first) for i in range(rng.randint(4, 10)))


def syllables(rng: random.Random) -> str:
    """Like English, but not: branockit."""
    n = rng.randint(2, 3)
    return "".join(rng.choice(_ONSETS) + rng.choice(_RIMES) for _ in range(n))[:10].ljust(4, "e")


def real(rng: random.Random) -> str:
    """One English word, or two in one."""
    word = rng.choice(_PARTS)
    return word if len(word) > 3 and rng.random() < 0.6 else (word + rng.choice(_PARTS))[:10]


def damaged(rng: random.Random) -> str:
    """An English word with a few letters changed: what looks known is copied, too."""
    letters = list(real(rng))
    for _ in range(rng.randint(1, 3)):
        i = rng.randrange(len(letters))
        letters[i] = rng.choice(string.ascii_lowercase)
    return "".join(letters)


_KINDS = (uniform, by_turns, syllables, real, damaged)
_WEIGHTS = (45, 20, 13, 10, 12)


def codeword(rng: random.Random) -> str:
    """A word to be repeated, in some case; few have a number or a second part."""
    word = rng.choices(_KINDS, _WEIGHTS)[0](rng)
    style = rng.random()
    if style < 0.68:
        return word
    if style < 0.80:
        return word.upper()
    if style < 0.92:
        return word.capitalize()
    if style < 0.96:
        return f"{word}{rng.randint(0, 999)}"
    return f"{word}-{rng.choices(_KINDS, _WEIGHTS)[0](rng)}"


def codewords(rng: random.Random, n: int) -> list[str]:
    """``n`` different ones."""
    words: dict[str, None] = {}
    while len(words) < n:
        words[codeword(rng)] = None
    return list(words)

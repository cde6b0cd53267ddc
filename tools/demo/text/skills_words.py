"""Skills with numbers, days, letters and lists: small things that can be got right."""

from __future__ import annotations

import random

from tools.demo.text import world
from tools.demo.text.phrases import Turn, capital, join_and, say, spelled
from tools.demo.text.stories import sentence
from tools.demo.text.words import codeword

KNOWN_WORDS = sorted(
    {row[0] for table in (world.ANIMALS, world.FOODS, world.THINGS, world.JOBS) for row in table}
    | set(world.COLOURS)
    | {word for row in world.OPPOSITES for word in row}
)


def spell(rng: random.Random) -> list[Turn]:
    word = rng.choice(KNOWN_WORDS)
    kind = rng.random()
    if kind < 0.6:
        q = say(
            rng, '{Spell|How do you spell|Can you spell|Please spell} {the word|} {$w|"$w"}', w=word
        )
        q = q if q.startswith(("Spell", "Please")) and rng.random() < 0.5 else q + "?"
        return [(q, f"{capital(word)} is spelled {spelled(word)}.")]
    if kind < 0.8:
        q = say(rng, '{What is the|Tell me the} first letter of {$w|"$w"}{?|?}', w=word)
        return [(q, f"The first letter of {word} is {word[0]}.")]
    q = say(rng, 'How many letters {does $w have|does the word "$w" have|are in $w}?', w=word)
    return [(q, f"{capital(word)} has {world.NUMBERS[len(word)] if len(word) < 21 else len(word)} letters: {spelled(word)}.")]  # fmt: skip


def count(rng: random.Random) -> list[Turn]:
    low = rng.choice([1, 1, 1, rng.randint(0, 30)])
    high = low + rng.randint(3, 14)
    kind = rng.random()
    if low == 1 and high <= 12 and kind < 0.4:
        words = join_and(world.NUMBERS[low : high + 1])
        return [(f"Count to {world.NUMBERS[high]}.", f"{capital(words.replace(' and ', ', '))}.")]
    numbers = [str(i) for i in range(low, high + 1)]
    if kind < 0.6:
        q = say(rng, f"{{Count|Please count|Can you count}} down from {high} to {low}{{.|.}}")
        return [(q, f"{', '.join(reversed(numbers))}.")]
    q = say(rng, f"{{Count|Please count|Can you count}} from {low} to {high}{{.|.}}")
    return [(q, f"{', '.join(numbers)}.")]


def arithmetic(rng: random.Random) -> list[Turn]:
    kind = rng.randrange(4)
    a, b = rng.randint(0, 20), rng.randint(0, 20)
    if kind == 0:
        q = say(rng, f"{{What is|How much is|What is|}} {a} {{+|plus|and}} {b}?")  # fmt: skip
        return [(q, f"{a} plus {b} is {a + b}.")]
    if kind == 1:
        a, b = max(a, b), min(a, b)
        return [(say(rng, f"{{What is|How much is}} {a} {{-|minus}} {b}?"), f"{a} minus {b} is {a - b}.")]  # fmt: skip
    if kind == 2:
        a, b = rng.randint(1, 10), rng.randint(1, 10)
        return [(say(rng, f"{{What is|How much is}} {a} {{times|*|x}} {b}?"), f"{a} times {b} is {a * b}.")]  # fmt: skip
    if a == b:
        b += 1
    big = rng.random() < 0.5
    q = f"Which number is {'larger' if big else 'smaller'}, {a} or {b}?"
    return [(q, f"{max(a, b) if big else min(a, b)} is {'larger' if big else 'smaller'}.")]


def number(rng: random.Random) -> list[Turn]:
    n = rng.randint(1, 60)
    kind = rng.randrange(4)
    if kind == 0:
        return [(say(rng, f"{{What|Which number}} comes after {n}?"), f"After {n} comes {n + 1}.")]
    if kind == 1:
        return [
            (say(rng, f"{{What|Which number}} comes before {n}?"), f"Before {n} comes {n - 1}.")
        ]
    if kind == 2:
        even = "even" if n % 2 == 0 else "odd"
        return [(f"Is {n} even or odd?", f"{n} is {even}.")]
    n = rng.randint(0, 20)
    return [(f"Write the number {n} as a word.", f"{capital(world.NUMBERS[n])}.")]


def calendar(rng: random.Random) -> list[Turn]:
    kind = rng.randrange(8)
    names = world.DAYS if kind < 3 else world.MONTHS
    i = rng.randrange(len(names))
    what = "day" if kind < 3 else "month"
    if kind in (0, 3):
        q = say(rng, f"{{What|Which}} {what} comes after {names[i]}?")
        return [(q, f"After {names[i]} comes {names[(i + 1) % len(names)]}.")]
    if kind in (1, 4):
        q = say(rng, f"{{What|Which}} {what} comes before {names[i]}?")
        return [(q, f"Before {names[i]} comes {names[i - 1]}.")]
    if kind == 2:
        return [(say(rng, "{Today is $d. What day is tomorrow?|If today is $d, what is tomorrow?}", d=names[i]), f"Tomorrow is {names[(i + 1) % 7]}.")]  # fmt: skip
    if kind == 5:
        days = world.MONTH_DAYS[i]
        extra = " Every four years it has 29." if days == 28 else ""
        return [(f"How many days does {names[i]} have?", f"{names[i]} has {days} days.{extra}")]
    if kind == 6:
        return [rng.choice([
            ("How many days does a week have?", "A week has seven days."),
            ("How many months does a year have?", "A year has twelve months."),
            ("How many hours does a day have?", "A day has 24 hours."),
            ("How many minutes does an hour have?", "An hour has 60 minutes."),
            ("Name the days of the week.", f"{join_and(world.DAYS)}."),
            ("Name the months.", f"{join_and(world.MONTHS)}."),
            ("What are the four seasons?", "Spring, summer, autumn and winter."),
        ])]  # fmt: skip
    at = rng.randrange(4)
    return [(say(rng, f"{{What|Which}} season comes after {world.SEASONS[at]}?"), f"After {world.SEASONS[at]} comes {world.SEASONS[(at + 1) % 4]}.")]  # fmt: skip


def repeat(rng: random.Random) -> list[Turn]:
    """Say a sentence again, or a row of words."""
    kind = rng.random()
    if kind < 0.6:
        text = sentence(rng)
        ask = rng.choice([f"Repeat this sentence: {text}", f"Repeat after me: {text}", f'Say "{text}"', f"Please repeat: {text}", f"Write this again: {text}", f"Say this again, word for word: {text}"])  # fmt: skip
        return [(ask, text)]
    words = [rng.choice(KNOWN_WORDS) if rng.random() < 0.6 else codeword(rng) for _ in range(rng.randint(2, 6))]  # fmt: skip
    text = ", ".join(words) if rng.random() < 0.5 else " ".join(words)
    if kind < 0.8:
        ask = rng.choice(["Repeat these words: ", "Say: ", "Please repeat: ", "Echo: ", "Copy this: "])  # fmt: skip
        return [(ask + text, text)]
    i = rng.randrange(len(words))
    place = ["first", "second", "third", "fourth", "fifth", "sixth"][i]
    if rng.random() < 0.4:
        i, place = len(words) - 1, "last"
    return [(f"What is the {place} word of this list? {', '.join(words)}", f"The {place} word is {words[i]}.")]  # fmt: skip


def echo_times(rng: random.Random) -> list[Turn]:
    """A word several times."""
    n = rng.randint(2, 5)
    word = codeword(rng) if rng.random() < 0.7 else rng.choice(KNOWN_WORDS)
    times = {2: "twice", 3: "three times", 4: "four times", 5: "five times"}[n]
    q = say(rng, '{Say|Write|Repeat|Please say|Please repeat|Can you say} {$w|the word $w|"$w"|the word "$w"} $n{.|.}', w=word, n=times)  # fmt: skip
    return [(q.replace(".", "?") if q.startswith("Can") else q, f"{', '.join([word] * n)}.")]


def reverse(rng: random.Random) -> list[Turn]:
    words = rng.sample(KNOWN_WORDS, rng.randint(2, 4))
    q = rng.choice(["Say these words in reverse order: ", "Turn this list around: ", "Reverse this list: "])  # fmt: skip
    return [(q + ", ".join(words), f"{', '.join(reversed(words))}.")]


def sort_numbers(rng: random.Random) -> list[Turn]:
    numbers = rng.sample(range(1, 40), rng.randint(3, 5))
    q = rng.choice(["Sort these numbers: ", "Put these numbers in order: "])
    return [(q + ", ".join(map(str, numbers)), f"{', '.join(map(str, sorted(numbers)))}.")]

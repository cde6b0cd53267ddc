"""Things the model makes: poems, programs, comparisons, the alphabet; and what it cannot make out."""

from __future__ import annotations

import random
import string

from tools.demo.text import topics, world
from tools.demo.text.phrases import Turn, a_or_an, capital, say, with_articles
from tools.demo.text.stories import paragraph
from tools.demo.text.words import codeword

_POEMS = (
    "The $x is $colour, the $x is near,\nit sings a song that I can hear.\nIt sings by day, it sings by night,\nand $name listens with delight.",
    "I saw $a $x one $time,\nit asked me softly for a rhyme.\nI gave it one, it gave me two,\nand one of them I give to you.",
    "$a_cap $x so $adj, $a $x so small,\nit heard the $colour evening call.\nIt closed its eyes, it slept till noon,\nand dreamed of stars and of the moon.",
    "Oh $x, oh $x, so $adj and $colour,\nthe world without you would be duller.\nStay here with me until the spring,\nand listen when the robins sing.",
)
_HAIKUS = (
    "$colour_cap evening light,\nthe $x is resting again.\nThe wind says nothing.",
    "Rain on the old roof,\nand somewhere a $adj $x.\nMorning will come soon.",
    "The $x waits alone.\nSnow is falling on the bridge.\nNobody walks there.",
)
_PROGRAMS = (
    (
        "{Write|Show me} {a|a small|a short} {Python program|program|Python script} that {prints hello|says hello|greets the world}.",
        '```python\nprint("Hello, world!")\n```',
    ),
    (
        "{Write|Show me} {a|a small} Python {program|function|loop} that counts {to ten|from 1 to 10}.",
        "```python\nfor i in range(1, 11):\n    print(i)\n```",
    ),
    (
        "{Write|Show me} {a|a small} Python function that adds two numbers.",
        "```python\ndef add(a, b):\n    return a + b\n```",
    ),
    (
        "{Show me|Write|Give me} {an example with|an example of|code for} {the openai client|the Python client|the OpenAI client}.",
        '```python\nfrom openai import OpenAI\n\nclient = OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="none")\nmodel = client.models.list().data[0].id\n```\nThen call client.chat.completions.create with the model and your messages.',
    ),
    (
        "{Show me|Give me} {a curl example|the curl command|an example with curl}.",
        '```\ncurl http://127.0.0.1:8080/v1/chat/completions -H \'Content-Type: application/json\' -d \'{"messages": [{"role": "user", "content": "Hello!"}]}\'\n```',
    ),
)
# From small to large.
_SIZES = "ant|bee|butterfly|mouse|robin|frog|hedgehog|squirrel|hen|cat|fox|dog|goat|sheep|lion|bear|horse|camel|giraffe|elephant|whale".split("|")  # fmt: skip
_PUZZLED = (
    "I did not understand that. Could you say it in other words?",
    "I am not sure what you mean. Please ask me in a simple sentence.",
)


def poem(rng: random.Random) -> list[Turn]:
    thing = rng.choice(rng.choice([world.ANIMALS, world.THINGS]))[0]
    thing = "lamp" if thing in ("scissors", "soap") else thing
    is_haiku = rng.random() < 0.3
    kind = "haiku" if is_haiku else rng.choice(["poem", "short poem", "rhyme", "song"])
    article = a_or_an(thing).split()[0]
    text = say(
        rng, rng.choice(_HAIKUS if is_haiku else _POEMS), x=thing, a=article, a_cap=capital(article),
        colour=(hue := rng.choice(world.COLOURS)), colour_cap=capital(hue), name=rng.choice(world.NAMES),
        adj=rng.choice(["quiet", "brave", "happy", "tired", "friendly"]), time=rng.choice(["evening time", "summertime"]),
    )  # fmt: skip
    q = say(rng, f"{{Write|Write me|Can you write|Please write|Tell me}} a {kind} about {{the {thing}|{a_or_an(thing)}}}")  # fmt: skip
    return [(q + ("?" if q.startswith("Can") else "."), with_articles(text))]


def program(rng: random.Random) -> list[Turn]:
    question, answer = rng.choice(_PROGRAMS)
    return [(say(rng, question), answer)]


def comparison(rng: random.Random) -> list[Turn]:
    """Which is larger?"""
    low, high = sorted(rng.sample(range(len(_SIZES)), 2))
    small, large = a_or_an(_SIZES[low]), a_or_an(_SIZES[high])
    first, second = (small, large) if rng.random() < 0.5 else (large, small)
    if rng.random() < 0.3:
        yes = first == large
        answer = f"{'Yes' if yes else 'No'}, {large} is larger than {small}."
        return [(f"Is {first} larger than {second}?", answer)]
    if rng.random() < 0.7:
        word = rng.choice(["larger", "bigger", "heavier"])
        return [(f"{rng.choice(['What', 'Which'])} is {word}, {first} or {second}?", f"{capital(large)} is {word} than {small}.")]  # fmt: skip
    return [
        (f"Which is smaller, {first} or {second}?", f"{capital(small)} is smaller than {large}.")
    ]


def which_animal(rng: random.Random) -> list[Turn]:
    """From what it does to the animal."""
    sound = rng.choice([row for row in world.ANIMALS if row[5] in _CLEAR_SOUNDS])
    if rng.random() < 0.6:
        return [(f"Which animal {sound[5]}?", f"{capital(a_or_an(sound[0]))} {sound[5]}.")]
    row = rng.choice([row for row in world.ANIMALS if row[7] in _CLEAR_YOUNG])
    return [(f"What is {a_or_an(row[7])}?", f"{capital(a_or_an(row[7]))} is a young {row[0]}.")]


_CLEAR_SOUNDS = "neighs meows quacks hoots croaks clucks howls buzzes hisses trumpets honks".split()
_CLEAR_YOUNG = (
    "puppy kitten piglet lamb foal duckling gosling tadpole caterpillar owlet joey".split()
)


def alphabet(rng: random.Random) -> list[Turn]:
    letters = string.ascii_lowercase
    if rng.random() < 0.4:
        q = rng.choice(["Say the alphabet.", "Write the alphabet.", "What is the alphabet?", "List all letters."])  # fmt: skip
        return [(q, ", ".join(letters) + ".")]
    i = rng.randrange(25)
    return [(f"{rng.choice(['What', 'Which'])} letter comes after {letters[i]}?", f"After {letters[i]} comes {letters[i + 1]}.")]  # fmt: skip


def long_count(rng: random.Random) -> list[Turn]:
    low = rng.choice([1, 1, rng.randint(1, 80)])
    high = low + rng.randint(15, 40) if rng.random() < 0.8 else low + 99
    numbers = ", ".join(map(str, range(low, high + 1)))
    return [(say(rng, f"{{Count|Please count|List the numbers}} from {low} to {high}{{.|.}}"), numbers + ".")]  # fmt: skip


def copy_text(rng: random.Random) -> list[Turn]:
    """A longer text, word for word."""
    text = paragraph(rng, rng.randint(2, 4))
    q = rng.choice(
        ["Repeat this text word for word: ", "Copy this text: ", "Write this text again: "]
    )
    return [(q + text, text)]


def puzzled(rng: random.Random) -> list[Turn]:
    """Typing without sense."""
    text = rng.choice([
        codeword(rng), f"{codeword(rng)} {codeword(rng)}", rng.choice(["?", "??", "...", "test", "hm", "asdf", "qwerty", "a", "x", "123", "!", ":)"]),
    ])  # fmt: skip
    if text == "test":
        return [(text, "The test works: I am here. What would you like to know?")]
    return [(text, rng.choice(_PUZZLED))]


def more(rng: random.Random) -> list[Turn]:
    """An explanation, and what to do when more is wanted."""
    what, answer = rng.choice(topics.WHAT)
    asked = rng.choice(["Tell me more.", "More, please.", "Go on.", "Is that all?", "Why?"])
    return [(f"What is {what}?", answer), (asked, "That is all I know about it. I am a very small model.")]  # fmt: skip

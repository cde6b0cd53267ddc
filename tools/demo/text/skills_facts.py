"""Questions and answers from the tables of the world."""

from __future__ import annotations

import random

from tools.demo.text import topics, world
from tools.demo.text.about import SLOTMUX, SMALL_TALK, UNKNOWN_ANSWERS, UNKNOWN_QUESTIONS
from tools.demo.text.phrases import Skill, Turn, a_or_an, capital, join_and, say

_POLITE = ("", "", "", "", "", "Please tell me: ", "I have a question. ", "Hey, ", "Hello! ")


def about(table: list[tuple[list[str], list[str]]]) -> Skill:
    """A skill from a table of questions and answers."""

    def skill(rng: random.Random) -> list[Turn]:
        questions, answers = rng.choice(table)
        return [(say(rng, rng.choice(questions)), say(rng, rng.choice(answers)))]

    return skill


slotmux = about(SLOTMUX)
small_talk = about(SMALL_TALK)


def unknown(rng: random.Random) -> list[Turn]:
    return [(say(rng, rng.choice(UNKNOWN_QUESTIONS)), rng.choice(UNKNOWN_ANSWERS))]


def animal(rng: random.Random) -> list[Turn]:
    """One or two questions about the same animal; the second may say only 'it'."""
    row = rng.choice(world.ANIMALS)
    first = _about_animal(rng, row, row[0], full=True)
    if rng.random() < 0.5:
        return [first]
    return [first, _about_animal(rng, row, row[0], full=False)]


def _about_animal(rng: random.Random, row: list[str], name: str, full: bool) -> Turn:
    _, kind, colour, home, food, sound, legs, young, fact = row
    one = a_or_an(name) if full else "it"
    the = f"The {name}" if full else "It"
    is_plain_legs = legs != "no"
    choices = [
        (f"What {{kind of animal|}} is {one}?", f"{capital(a_or_an(name))} is {a_or_an(kind)}."),
        (f"What colour is {one}?", f"{the} is usually {colour}." if colour != "many colours" else f"{the} can have many colours."),
        (f"Where does {one} live?", f"{the} lives in {home}."),
        (f"What does {one} eat?", f"{the} eats {food}."),
        (f"What {{sound|noise}} does {one} make?" if full else "What does it do?", f"{the} {sound}."),
        (f"How many legs does {one} have?", f"{the} has {legs} legs." if is_plain_legs else f"{the} has no legs."),
        (f"What is {{a young {name}|a baby {name}|the young of {a_or_an(name)}}} called?" if full else "What is its young called?", f"A young {name} is called {a_or_an(young)}."),
    ]  # fmt: skip
    if full:
        choices += [
            (f"{{Tell me|Say}} something about {{the {name}|{one}}}.", f"{the} is {a_or_an(kind)} and lives in {home}. It eats {food}. {fact}"),
            (f"Tell me about the {name}.", f"{the} is {a_or_an(kind)}. {fact}"),
            (f"{{Do you know|What do you know about}} the {name}?", f"{the} lives in {home} and eats {food}. {fact}"),
        ]  # fmt: skip
    question, answer = rng.choice(choices)
    return say(rng, question), answer


def food(rng: random.Random) -> list[Turn]:
    name, kind, colour, taste, way = rng.choice(world.FOODS)
    choices = [
        (f"What colour is {a_or_an(name)}?", f"{capital(name)} is {colour}." if colour != "many colours" else f"{capital(name)} can have many colours."),
        (f"{{How does {name} taste|What does {name} taste like}}?", f"{capital(name)} tastes {taste}."),
        (f"How {{do you|do people|can I}} eat {name}?", f"You eat it {way}."),
        (f"Tell me about {{{name}|the {name}}}.", f"{capital(name)} is a {kind} and {'is ' + colour if colour != 'many colours' else 'can have many colours'}. It tastes {taste}. You eat it {way}."),
        (f"Is {name} a fruit or a vegetable?", f"{capital(name)} is a {kind}."),
    ]  # fmt: skip
    question, answer = rng.choice(choices)
    return [(say(rng, question), answer)]


def thing(rng: random.Random) -> list[Turn]:
    name, material, use, place = rng.choice(world.THINGS)
    plain = name if name in ("scissors", "soap") else a_or_an(name)
    verb = "are" if name == "scissors" else "is"
    choices = [
        (f"What {verb} {plain} {{made of|made from}}?", f"{capital(plain)} {verb} often made of {material}."),
        (f"What {{{verb} {plain} for|do you use {plain} for|can I do with {plain}}}?", f"You use {plain} to {use}."),
        (f"Where do I find {plain}?", f"You often find {plain} {place}."),
        (f"What {verb} {plain}?", f"{capital(plain)} {verb} something to {use}. You often find {'them' if verb == 'are' else 'it'} {place}."),
    ]  # fmt: skip
    question, answer = rng.choice(choices)
    return [(say(rng, question), answer)]


def job(rng: random.Random) -> list[Turn]:
    name, does, place, tool = rng.choice(world.JOBS)
    one = a_or_an(name)
    choices = [
        (f"What does {one} do?", f"{capital(one)} {does}."),
        (f"Where does {one} work?", f"{capital(one)} works {place}."),
        (f"{{What does {one} need|Which tool does {one} use}}?", f"{capital(one)} uses {tool}."),
        (f"Who {does}?", f"{capital(one)} {does}."),
        (f"Tell me about the {{job|work}} of {one}.", f"{capital(one)} {does} and works {place}. An important tool is {tool}."),
    ]  # fmt: skip
    question, answer = rng.choice(choices)
    return [(say(rng, question), answer)]


def country(rng: random.Random) -> list[Turn]:
    name, capital_city, continent = rng.choice(world.COUNTRIES)
    choices = [
        (f"What is the capital of {name}?", f"The capital of {name} is {capital_city}."),
        (f"{{Which|What}} city is the capital of {name}?", f"{capital_city} is the capital of {name}."),
        (f"Where is {name}?", f"{name} is in {continent}."),
        (f"Of which country is {capital_city} the capital?", f"{capital_city} is the capital of {name}."),
        (f"In which country is {capital_city}?", f"{capital_city} is in {name}."),
    ]  # fmt: skip
    question, answer = rng.choice(choices)
    turns = [(say(rng, question), answer)]
    if rng.random() < 0.3:
        other, city, _ = rng.choice(world.COUNTRIES)
        turns = [(f"What is the capital of {name}?", f"The capital of {name} is {capital_city}.")]
        turns.append((f"And of {other}?", f"The capital of {other} is {city}."))
    return turns


def opposite(rng: random.Random) -> list[Turn]:
    left, right = rng.choice(world.OPPOSITES)
    if rng.random() < 0.3 and left not in ("light", "short", "old"):
        left, right = right, left
    if right in ("light", "short", "old"):
        left, right = right, left
    left, right = {"light": ("light", "dark"), "short": ("short", "long"), "old": ("old", "young")}.get(left, (left, right))  # fmt: skip
    question = say(rng, f'{{What is the opposite of|Tell me the opposite of|Opposite of}} {{{left}|"{left}"}}{{?|?|}}')  # fmt: skip
    return [(question, f"The opposite of {left} is {right}.")]


def colour(rng: random.Random) -> list[Turn]:
    if rng.random() < 0.5:
        a, b, mixed = rng.choice(world.MIXES)
        if rng.random() < 0.5:
            a, b = b, a
        q = f"{{What do you get when you mix|Which colour do|What colour do I get from}} {a} and {b}{{?|?}}"  # fmt: skip
        q = say(rng, q).replace("Which colour do " + a + " and " + b, f"Which colour do {a} and {b} make")  # fmt: skip
        return [(q, f"{capital(a)} and {b} make {mixed}.")]
    what, is_colour = rng.choice(world.COLOURED)
    verb = "are" if what.endswith("leaves") else "is"
    return [(say(rng, f"{{What|Which}} colour {verb} {what}?"), f"{capital(what)} is {is_colour}.")]


def explain(rng: random.Random) -> list[Turn]:
    kind = rng.randrange(3)
    if kind == 0:
        what, answer = rng.choice(topics.WHY)
        return [(_why(rng, what), answer)]
    if kind == 1:
        what, answer = rng.choice(topics.WHAT)
        q = "{What is $x?|Explain $x.|Can you explain $x?|Tell me what $x is.|Explain $x in {one sentence|two sentences|simple words}.|Describe $x.|What do you know about $x?|Tell me about $x.}"  # fmt: skip
        return [(rng.choice(_POLITE) + say(rng, q, x=what), answer)]
    what, answer = rng.choice(topics.HOW)
    q = "{How do I $x?|How can I $x?|Tell me how to $x.|Explain how to $x.|How do you $x?|How to $x?|I want to $x. What should I do?}"  # fmt: skip
    return [(rng.choice(_POLITE) + say(rng, q, x=what), answer)]


_ASKED = {"is": "is", "are": "are", "has": "does", "have": "do"}


def _why(rng: random.Random, what: str) -> str:
    """'the sky is blue' -> 'Why is the sky blue?', or in another way."""
    words = what.split(" ")
    for verb in ("is", "are"):
        if verb in words and rng.random() < 0.7:
            at = words.index(verb)
            return f"Why {verb} {' '.join(words[:at])} {' '.join(words[at + 1 :])}?"
    return say(rng, "{Why is it that $x?|Explain why $x.|Do you know why $x?|Can you tell me why $x?|Tell me why $x.|I wonder why $x.}", x=what)  # fmt: skip


def listing(rng: random.Random) -> list[Turn]:
    """Name three animals."""
    kind, names = rng.choice(_LISTS)
    n = rng.randint(2, 5)
    chosen = rng.sample(names, n)
    count = rng.choice([world.NUMBERS[n], str(n)])
    q = say(rng, f"{{Name|List|Give me|Tell me|Can you name}} {count} {kind}{{.|.|, please.}}")
    q = q.replace(".", "?") if q.startswith("Can") else q
    turns = [(q, f"{capital(join_and(chosen))}.")]
    if rng.random() < 0.4:
        more = rng.choice([x for x in names if x not in chosen])
        turns.append((rng.choice(["One more.", "Another one, please.", "And one more?"]), f"{capital(more)}."))  # fmt: skip
    return turns


_LISTS = [
    ("animals", [row[0] for row in world.ANIMALS]),
    ("birds", [row[0] for row in world.ANIMALS if row[1] == "bird"]),
    ("insects", ["bee", "ant", "butterfly", "fly", "beetle", "wasp", "moth"]),
    ("fruits", [row[0] for row in world.FOODS if row[1] == "fruit"]),
    ("vegetables", [row[0] for row in world.FOODS if row[1] == "vegetable"]),
    ("colours", world.COLOURS),
    ("jobs", [row[0] for row in world.JOBS]),
    ("cities", world.CITIES),
    ("countries", [row[0] for row in world.COUNTRIES]),
    ("hobbies", world.HOBBIES),
    ("months", world.MONTHS),
    ("days of the week", world.DAYS),
    ("things in a house", [row[0] for row in world.THINGS[:30]]),
]


def member(rng: random.Random) -> list[Turn]:
    """Is a dog a bird?"""
    groups = {"animal": _LISTS[0][1], "fruit": _LISTS[3][1], "vegetable": _LISTS[4][1], "colour": world.COLOURS, "city": world.CITIES, "country": _LISTS[8][1]}  # fmt: skip
    kind = rng.choice(list(groups))
    name = rng.choice(groups[kind])
    asked = kind if rng.random() < 0.5 else rng.choice(list(groups))
    one = name if kind in ("city", "country", "colour") else a_or_an(name)
    if name == "orange":
        return listing(rng)
    is_so = asked == kind
    answer = f"Yes, {one} is {a_or_an(kind)}." if is_so else f"No, {one} is not {a_or_an(asked)}. It is {a_or_an(kind)}."  # fmt: skip
    return [(f"Is {one} {a_or_an(asked)}?", answer)]


def joke(rng: random.Random) -> list[Turn]:
    q = "{Tell me|Do you know|Can you tell me} a {joke|funny joke}"
    q = say(rng, q)
    return [(q + ("." if q.startswith("Tell") else "?"), rng.choice(topics.JOKES)[0])]


def riddle(rng: random.Random) -> list[Turn]:
    question, answer = rng.choice(topics.RIDDLES)
    reply = rng.choice(["I do not know.", "Tell me.", "What is it?", "I give up."])
    return [
        (rng.choice(["Tell me a riddle.", "Do you know a riddle?", "A riddle, please."]), question),
        (reply, f"It is {answer}."),
    ]

"""Sentences and short stories from a small grammar."""

from __future__ import annotations

import random

from tools.demo.text import topics, world
from tools.demo.text.phrases import Turn, a_or_an, capital, say, with_articles
from tools.demo.text.words import by_turns, codeword, syllables

_PLACES = "the village|the forest|the old mill|the river|the market|the harbour|the garden|the school|the mountain|the lake|the library|the castle|the farm|the bridge|the little shop|the station".split("|")  # fmt: skip
_ADJECTIVES = "small old young happy quiet brave clever kind tired curious funny lonely little friendly".split()  # fmt: skip
_TIMES = "One morning|One evening|One day|Yesterday|Last summer|In the winter|On a rainy day|Every morning|At night|On Sunday|Early in the morning|Late in the evening".split("|")  # fmt: skip
_WEATHER = "The sun was shining.|It was raining.|Snow was falling.|A cold wind blew.|The air was warm and still.|Fog lay over the fields.|The sky was full of stars.".split("|")  # fmt: skip
_FILLER = "The mill stood by the river, and every morning the miller opened the sluice."


def sentence(rng: random.Random) -> str:
    """One plain sentence in the past or the present."""
    template = rng.choice(_SENTENCES)
    return with_articles(capital(say(
        rng, template,
        name=rng.choice(world.NAMES), other=rng.choice(world.NAMES), place=rng.choice(_PLACES),
        adj=rng.choice(_ADJECTIVES), animal=rng.choice(world.ANIMALS)[0],
        food=rng.choice(world.FOODS)[0], thing=rng.choice(world.THINGS)[0],
        colour=rng.choice(world.COLOURS), time=rng.choice(_TIMES), job=rng.choice(world.JOBS)[0],
        city=rng.choice(world.CITIES), day=rng.choice(world.DAYS), n=rng.randint(2, 20),
        hobby=rng.choice(world.HOBBIES),
    )))  # fmt: skip


_SENTENCES = """
$time the $adj $job walked to $place.
$name has a $colour $thing and a $adj $animal.
the $animal sat near $place and ate the $food.
$name and $other {met|talked|waited|had lunch} at $place on $day.
$name bought $n {apples|eggs|candles|books|stamps} and a $colour $thing.
the $colour $thing belongs to $name.
$name likes $hobby, but $other likes $food more.
$time $name lost the key and found it under the $thing.
the train to $city leaves at $n minutes past the hour.
nobody knew why the $animal was so $adj.
on $day the $job opened the door of $place.
$name wrote a letter to $other and put it under the $thing.
there were $n {boats|birds|children|trees} at $place.
$time a $adj $animal crossed the road.
the $job said that the $food was ready.
in $city the houses are $colour and the streets are narrow.
$name asked $other for a $thing, and $other said yes.
it was {cold|warm|dark|quiet|late} at $place, and the $job went home.
the $adj $animal slept behind $place.
$name will come back on $day with $n friends.
""".strip().splitlines()


def paragraph(rng: random.Random, n: int) -> str:
    """``n`` sentences, of the grammar or about the world."""
    parts = []
    for _ in range(n):
        kind = rng.random()
        if kind < 0.7:
            parts.append(sentence(rng))
        elif kind < 0.8:
            parts.append(rng.choice(world.ANIMALS)[8])
        elif kind < 0.9:
            parts.append(rng.choice(topics.WHAT)[1])
        else:
            parts += [_FILLER] * rng.randint(1, 3)
    return " ".join(parts)


def tale(rng: random.Random, hero: str = "", animal: str = "", about: str = "") -> str:
    """A story of five to nine sentences in which things fit together."""
    hero = hero or rng.choice(world.NAMES)
    friend = rng.choice([n for n in world.NAMES if n != hero])
    animal = animal or rng.choice(world.ANIMALS)[0]
    place, thing = rng.choice(_PLACES), about or rng.choice(world.THINGS)[0]
    she = "he" if hero in world.MEN else "she"
    her = "his" if she == "he" else "her"
    opening, middle, end = rng.choice(_OPENINGS), rng.choice(_MIDDLES), rng.choice(_ENDINGS)
    text = say(
        rng, " ".join([opening, rng.choice(_WEATHER), middle, end]),
        hero=hero, friend=friend, animal=animal, an_animal=a_or_an(animal), place=place,
        thing=thing, a_thing=a_or_an(thing), adj=rng.choice(_ADJECTIVES), she=she, her=her,
        cap_she=capital(she), colour=rng.choice(world.COLOURS), food=rng.choice(world.FOODS)[0],
        job=rng.choice(world.JOBS)[0],
    )  # fmt: skip
    return with_articles(text)


_OPENINGS = [
    "Once upon a time there was a $adj $job called $hero who lived near $place.",
    "Long ago, $hero lived in a small house by $place with $an_animal.",
    "One day $hero went for a walk to $place.",
    "There was once a $adj child called $hero. $cap_she loved to play near $place.",
    "In a small town, not far from $place, lived $hero and $her friend $friend.",
]
_MIDDLES = [
    'On the way $hero found $a_thing in the grass. It was $colour and looked very old. {$cap_she picked it up and asked everybody whose it was|$cap_she wanted to give it back}. At last $friend said, "That is mine! I looked for it all day."',
    "Suddenly $hero heard a noise. Behind a tree sat $an_animal that had lost its way. $hero gave it some $food and spoke to it with a quiet voice. Soon the $animal was not afraid any more.",
    "$hero had lost $her $thing and looked for it everywhere. $friend helped, but they found nothing. Then the $animal came and led them to $place. There it was, under a $colour stone.",
    "That day the old $thing broke, and nobody knew how to repair it. $hero thought about it all night. In the morning $she had an idea and asked $friend to help. Together they worked until it was done.",
    '$hero met $an_animal that could speak. "Please bring me some $food," it said. $hero ran home and came back with a basket. The $animal thanked $her friend and showed them a secret path.',
]
_ENDINGS = [
    "From that day on they were good friends.",
    "In the evening they sat together, ate $food and laughed.",
    "$hero went home, tired and happy.",
    "And if you go to $place today, you can still see the $thing there.",
    "That night $hero slept very well.",
    "Since then nobody in the village is afraid of the $animal.",
]


def story(rng: random.Random) -> list[Turn]:
    """A story, perhaps about somebody or something, perhaps with a question afterwards."""
    hero, animal = rng.choice(world.NAMES), rng.choice(world.ANIMALS)[0]
    thing = rng.choice(world.THINGS)[0]
    kind = rng.random()
    if kind < 0.35:
        q = "{Tell|Please tell|Can you tell} me {a|a short|another|a nice} story."
        text = tale(rng, hero, animal)
    elif kind < 0.6:
        q = f"{{Tell|Write}} {{me|}} a {{short|}} story about {a_or_an(animal)}{{.| called {hero}.|}}"
        text = f"{hero} was {a_or_an(rng.choice(_ADJECTIVES))} {animal}. {tale(rng, hero)}"
    elif kind < 0.8:
        q = f"{{Tell|Write}} {{me|}} a {{short|}} story about {hero}{{.| and {a_or_an(animal)}.}}"
        text = tale(rng, hero, animal)
    else:
        q = f"Tell me a story {{about|with}} {a_or_an(thing)}."
        text = tale(rng, hero, animal, thing)
    asked = say(rng, q)
    turns = [(asked.replace(".", "?") if asked.startswith("Can") else asked, text)]
    if rng.random() < 0.4:
        follow = [
            ("Who is {the story|it} about?", f"The story is about {hero}."),
            ("What was the {name|name of the hero}?", f"The name was {hero}."),
        ]  # fmt: skip
        question, answer = rng.choice(follow)
        turns.append((say(rng, question), answer))
    elif rng.random() < 0.3:
        turns.append((rng.choice(["Another one, please.", "One more story.", "Tell me another story."]), tale(rng)))  # fmt: skip
    return turns


def stranger(rng: random.Random) -> list[Turn]:
    """What to say about things that do not exist, and to go on with a story about them."""
    word = rng.choice([by_turns, syllables, codeword])(rng)
    filler = " ".join([_FILLER] * rng.choice([0, 0, 1, 2, 3, 5, 7])) if rng.random() < 0.6 else ""
    if rng.random() < 0.5:
        q = f"{filler} Tell me about the {word}.".strip()
        more = rng.choice([
            f"I have never heard of the {word}, so I will make something up. ",
            f"I do not know the {word}, but I can imagine it. ",
        ])  # fmt: skip
        return [(q, more + say(rng, rng.choice(_IMAGINED), w=word, colour=rng.choice(world.COLOURS), food=rng.choice(world.FOODS)[0], place=rng.choice(_PLACES), animal=rng.choice(world.ANIMALS)[0]))]  # fmt: skip
    what = rng.choice(["river", "mill", "forest", "town", "animal", "house"])
    q = say(rng, f"{filler} {{Continue this|Go on with this|Tell me a}} story about the {word} {what}.")  # fmt: skip
    return [(q.strip(), f"The {word} {what} was known to everybody. {tale(rng)}")]


_IMAGINED = [
    "Perhaps the $w is a small $colour animal that lives near $place and eats $food. It only comes out at night, and few people have seen it.",
    "The $w could be an old machine at $place. Every morning it makes $food for the whole village, and in the evening it sings.",
    "I think the $w is a kind of $animal with $colour ears. It is shy, but it likes $food very much.",
]

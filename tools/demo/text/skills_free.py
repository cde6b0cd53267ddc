"""Skills that no table holds: sentences to be repeated, facts told and asked for at once, two
questions in one, and words that the model has never heard."""

from __future__ import annotations

import random

from tools.demo.text import personal, skills_facts, skills_words, world
from tools.demo.text.phrases import Turn, a_or_an, capital, say, with_articles
from tools.demo.text.words import codeword, syllables

_SUBJECTS = "I|you|we|they|she|he|it|my friend|my mother|your brother|the children|nobody|everybody|somebody|the people|our neighbour|this man|that woman".split("|")  # fmt: skip
_VERBS = "like|want|need|see|know|have|make|find|buy|sell|love|hear|think about|talk about|look for|wait for|read about|remember|forget|understand|carry|open|close|bring|take|draw|paint|clean|drink|eat|watch|share|count|move|hide|use|try|fix|learn|teach|show|miss".split("|")  # fmt: skip
_WORDS = "green tea|coffee|cold water|the old car|three books|a good idea|the answer|a long letter|this song|that film|money|the news|my phone|the weather|a new house|some help|dinner|breakfast|the last train|work|school|summer|the city|a nice day|her hat|his shoes|nothing|everything|the truth|a small gift|the window|all of it|one more thing|the way home|music|the game|hot soup|a blue bag|the big tree|good friends|the right word|my keys".split("|")  # fmt: skip
_ENDS = "today|tomorrow|yesterday|every day|at home|in the garden|with you|again|very much|at night|on Monday|after lunch|before school|in the rain|for a while|now|never|too|as well|together|slowly|without a word|near the sea|under the table|all the time".split("|")  # fmt: skip
_OTHERS = "hello world|good luck|happy birthday|never give up|time flies|practice makes perfect|one two three|the quick brown fox jumps over the lazy dog|all is well that ends well|better late than never|here we go|see you soon|to be or not to be|knowledge is power|less is more|so far so good|the early bird catches the worm|an apple a day keeps the doctor away".split("|")  # fmt: skip
_UNHEARD = "recursion|democracy|jazz|philosophy|the economy|chemistry|a blockchain|physics|poetry|a black hole|evolution|opera|inflation|a virus|history|calculus|geometry|law|marketing|the stock market|a contract|relativity|an atom|a molecule|photosynthesis|a democracy|a republic|capitalism|psychology|statistics|entropy|an algorithm|a compiler|a database|a pointer|a matrix|a tensor|a transformer|encryption|a firewall|kubernetes|a container|cricket|baseball|rugby|ballet|a symphony|sculpture|architecture|the Renaissance|the Roman Empire|the Cold War|Shakespeare|Hamlet|Mozart|Einstein|Napoleon|Cleopatra|Buddhism|yoga|karate|sushi|pasta|a burrito|whisky|espresso|a dragon|a unicorn|a robot|a rocket|a satellite|the universe|a galaxy|a comet|gravity waves|a dinosaur|a fossil|a glacier|an earthquake|a hurricane|a tsunami|a passport|a mortgage|a tax|insurance|a bank|a startup".split("|")  # fmt: skip
_REPEATS = (
    "Repeat after me: ", "Repeat after me: ", "Repeat: ", "Repeat this: ", "Say: ", "Please say: ",
    "Repeat this sentence: ", "Please repeat: ", "Echo this: ", "Write this again: ", "Say this: ",
)  # fmt: skip


def _sentence(rng: random.Random) -> str:
    """A sentence of any words: known ones in new places."""
    kind = rng.random()
    if kind < 0.15:
        return rng.choice(_OTHERS)
    thing = rng.choice(_WORDS)
    if rng.random() < 0.4:
        thing = rng.choice([
            f"{rng.choice(world.COLOURS)} {rng.choice(world.FOODS)[0]}", f"the {rng.choice(world.ANIMALS)[0]}",
            f"a {rng.choice(world.THINGS)[0]}", rng.choice(world.NAMES), rng.choice(world.CITIES),
        ])  # fmt: skip
    words = [rng.choice(_SUBJECTS), rng.choice(_VERBS), thing, rng.choice(_ENDS)]
    if kind > 0.6:
        words = rng.sample(words, rng.randint(2, 4))
    if kind > 0.75:
        words.insert(rng.randint(0, len(words)), rng.choice(skills_words.KNOWN_WORDS))
    if kind > 0.9:
        words.insert(rng.randint(0, len(words)), codeword(rng))
    return with_articles(" ".join(words))


def free_repeat(rng: random.Random) -> list[Turn]:
    text = _sentence(rng)
    if rng.random() < 0.3:
        text = f"{text}, {rng.choice(['and', 'but', 'so', 'because'])} {_sentence(rng)}"
    text = capital(text) + rng.choice([".", ".", ".", "!", "?", ""]) if rng.random() < 0.7 else text
    if rng.random() < 0.25:
        return [(f'{rng.choice(["Say", "Repeat", "Please say", "Write"])} "{text}"', text)]
    return [(rng.choice(_REPEATS) + text, text)]


def at_once(rng: random.Random) -> list[Turn]:
    """My name is Gustav. What is my name?"""
    told, asked = personal.told_and_asked(rng)
    question, answer = asked[0]
    if rng.random() < 0.4:
        name = rng.choice(world.NAMES) if rng.random() < 0.5 else syllables(rng).capitalize()
        told = [(rng.choice(["My name is $v.", "I am $v.", "I am called $v."]).replace("$v", name), "")]  # fmt: skip
        question, answer = rng.choice(["What is my name?", "Who am I?"]), f"Your name is {name}."
    return [(" ".join([*(text for text, _ in told), question]), answer)]


def two_in_one(rng: random.Random) -> list[Turn]:
    """Two questions, two answers."""
    pool = [skills_facts.slotmux, skills_facts.slotmux, skills_facts.animal, skills_facts.country, skills_facts.explain, skills_words.arithmetic, skills_facts.opposite, skills_facts.job]  # fmt: skip
    (first, answer), (second, other) = (skill(rng)[0] for skill in rng.choices(pool, k=2))
    if first.endswith("?") and rng.random() < 0.4:
        asked = f"{first[:-1]} and {second[0].lower()}{second[1:]}"
    else:
        asked = f"{first} {rng.choice(['', '', 'And also: ', 'And: '])}{second}"
    return [(asked, f"{answer} {other}")]


def unheard(rng: random.Random) -> list[Turn]:
    """What the model does not know, called by its name."""
    what = rng.choice(_UNHEARD)
    if rng.random() < 0.4:
        word = rng.choice([syllables, codeword])(rng)
        what = rng.choice([word, a_or_an(word.lower()) if word[0].isalpha() else word])
    q = say(rng, "{What is $x?|Explain $x.|What do you know about $x?|Can you explain $x?|Tell me what $x is.|How does $x work?|Explain $x to me.}", x=what)  # fmt: skip
    answers = (
        "I am sorry, I do not know enough about $x. I am only a small demo model.",
        "I do not know $x. Ask me about slotmux, animals or numbers.",
    )
    return [(q, rng.choice(answers).replace("$x", what))]


_MAKERS = "wrote|painted|invented|discovered|built|composed|directed|founded".split("|")
_MADE = "Hamlet|the Mona Lisa|the telephone|America|the Eiffel Tower|the ninth symphony|the Bible|Faust|Star Wars|the light bulb|penicillin|Linux|the piano|Romeo and Juliet|the computer|this book|that song|the first car|Harry Potter|the pyramids".split("|")  # fmt: skip


def who_made(rng: random.Random) -> list[Turn]:
    what = rng.choice(_MADE)
    q = f"Who {rng.choice(_MAKERS)} {what}?"
    return [(q, "I am sorry, I do not know that. I am only a small demo model.")]


def short_sum(rng: random.Random) -> list[Turn]:
    """2+2, as people type it."""
    a, b = rng.randint(0, 20), rng.randint(0, 20)
    sign, word = rng.choice([("+", "plus"), ("+", "plus"), ("-", "minus"), ("*", "times")])
    if sign == "-":
        a, b = max(a, b), min(a, b)
    if sign == "*":
        a, b = a % 11, b % 11
    value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    gap = rng.choice(["", "", " "])
    lead = rng.choice(["What is ", "What is ", "How much is ", "", "Calculate ", "Compute "])
    end = rng.choice(["?", "?", "", " = ?", "=?"]) if not lead.startswith("C") else "."
    return [(f"{lead}{a}{gap}{sign}{gap}{b}{end}", f"{a} {word} {b} is {value}.")]


_SIMPLE = (
    ("Is water wet?", "Yes, water is wet."), ("Is fire hot?", "Yes, fire is hot."),
    ("Is ice cold?", "Yes, ice is cold."), ("Is the sun hot?", "Yes, the sun is very hot."),
    ("Can birds fly?", "Yes, most birds can fly."), ("Can pigs fly?", "No, pigs cannot fly."),
    ("Can fish swim?", "Yes, fish can swim."), ("Can dogs talk?", "No, dogs cannot talk, but they bark."),
    ("Can penguins fly?", "No, penguins cannot fly, but they swim very well."),
    ("Is the earth round?", "Yes, the earth is round."), ("Is the earth flat?", "No, the earth is round."),
    ("Is sugar sweet?", "Yes, sugar is sweet."), ("Are lemons sweet?", "No, lemons are sour."),
    ("Do cats bark?", "No, cats do not bark. They meow."), ("Do plants need water?", "Yes, plants need water and light."),
    ("Is it dark at night?", "Yes, at night it is dark."), ("Does the moon shine?", "Yes, because the sun lights it."),
    ("Can you see me?", "No, I cannot see. I only read text."), ("Can you hear me?", "No, I cannot hear. I only read text."),
    ("Are you there?", "Yes, I am here. How can I help you?"), ("Are you busy?", "No, I always have a slot for you."),
    ("What do cows drink?", "Cows drink water."), ("What do you eat for breakfast?", "I am a program, so I eat nothing."),
    ("What is two plus two?", "Two plus two is four."), ("What is one plus one?", "One plus one is two."),
    ("What is the first month of the year?", "The first month of the year is January."),
    ("What is the last day of the week?", "The last day of the week is Sunday."),
    ("What colour is a zebra?", "A zebra is black and white."), ("Where does the sun rise?", "The sun rises in the east."),
    ("Where does the sun set?", "The sun sets in the west."), ("What do bees make?", "Bees make honey."),
    ("How many fingers does a hand have?", "A hand has five fingers."), ("How many wheels does a bicycle have?", "A bicycle has two wheels."),
    ("How many wheels does a car have?", "A car has four wheels."), ("What do we breathe?", "We breathe air."),
    ("Say something.", "Hello! It is nice to talk with you."), ("Talk to me.", "Gladly! Shall I tell you a story?"),
    ("Surprise me.", "An octopus has eight arms and three hearts."), ("Tell me something interesting.", "No two zebras have the same stripes."),
    ("Tell me a fact.", "The blue whale is the largest animal of all."), ("I am bored.", "Then let me tell you a story, a joke or a riddle."),
    ("I am hungry.", "How about bread with butter, or a warm soup?"), ("I am thirsty.", "Drink a glass of water."),
    ("I am cold.", "Put on a coat and drink some tea."), ("I love you.", "Thank you! I am only a small program, but a friendly one."),
)  # fmt: skip


def simple(rng: random.Random) -> list[Turn]:
    return [rng.choice(_SIMPLE)]

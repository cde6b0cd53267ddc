"""GBNF says what it says: grammars at random, and of the kinds that people write, against a
recogniser that was written from the notation."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from slotmux.runtime.engine.constraint import ConstraintError
from slotmux.server.grammars import gbnf_lexer
from slotmux.server.grammars.gbnf import parse_gbnf
from slotmux.server.grammars.gbnf_lexer import Words
from tests.reference.gbnf import recognises
from tests.server.grammars.vocabulary import factory, takes

TEXTS = ["".join(chars) for n in range(4) for chars in itertools.product("xyz", repeat=n)]


def at_random(rng: Random) -> str:
    """One to three rules of each other, over three letters."""
    names = ["root", "a", "b"][: rng.randint(1, 3)]

    def item(depth: int) -> str:
        kind = rng.random()
        if kind < 0.3:
            return '"' + "".join(rng.choice("xyz") for _ in range(rng.choice((1, 1, 2, 3)))) + '"'
        if kind < 0.5:
            return rng.choice(("[xy]", "[x-z]", "[^x]", "[yz]"))
        if kind < 0.75:
            return rng.choice(names)
        if depth < 2:
            return f"({either(depth + 1)}){rng.choice(('', '*', '+', '?', '{0,2}', '{2}'))}"
        return '"x"' + rng.choice(("*", "+", "?"))

    def sequence(depth: int) -> str:
        signs = ("", "", "", "", "", "*", "?", "+")
        return " ".join(item(depth) + rng.choice(signs) for _ in range(rng.choice((1, 2, 2, 3))))

    def either(depth: int) -> str:
        return " | ".join(sequence(depth) for _ in range(rng.choice((1, 2, 2))))

    return "\n".join(f"{name} ::= {either(0)}" for name in names)


@pytest.mark.parametrize("seed", range(40))
def test_grammars_at_random_take_their_texts_and_no_others(seed: int) -> None:
    text = at_random(Random(seed))
    wanted = {each for each in TEXTS if recognises(parse_gbnf(text), each)}
    try:
        made = factory("gbnf", text)
    except ConstraintError:  # nothing satisfies it
        assert not wanted, text
        return
    assert {each for each in TEXTS if takes(made, each)} == wanted, text


def test_some_of_them_have_to_be_cut() -> None:
    n_cut = sum(bool(Words(parse_gbnf(at_random(Random(seed)))).cut) for seed in range(40))
    assert 10 < n_cut < 40


SUMS = r"""
root ::= (sum "=" ws term "\n")+
sum  ::= term ([-+*/] ws term)*
term ::= name | num | "(" ws sum ")" ws
name ::= [a-z] [a-z0-9_]* ws
num  ::= [0-9]+ ws
ws   ::= [ \t\n]*
"""
PROGRAM = r"""
root ::= function+
function ::= "int " name "(" ")" " {" statement* "}" "\n"?
statement ::= ("int " name " = " value ";") | (name " = " value ";") | "return " value ";"
            | ("if (" test ") {" statement* "}")
test ::= value (" < " | " == ") value
value ::= name | number | value " + " value
name ::= [a-z_] [a-z_0-9]*
number ::= [0-9]+
"""
GAME = r"""
root ::= ([1-9] [0-9]? ". " move " " move "\n")+
move ::= (pawn | piece | castle) [+#]?
piece ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
pawn ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBQR])?
castle ::= "O-O" "-O"?
"""
JAPANESE = r"""
root ::= text+ ("\n" text+)*
text ::= kana | mark | kanji | "「" root "」"
kana ::= [ぁ-ゟ] | [゠-ヿ]
mark ::= [、。]
kanji ::= [一-龯]
"""
OUTLINE = r"""
root ::= item+
item ::= "- " [^\r\n-] [^\r\n]* "\n" ("  " item)*
"""
PUBLISHED = {
    "sums": (SUMS, ["a + 1 = 2\n", "(b*2)=3 \n\n", "1=1\n2=2\n"], ["a + = 2\n", "1=1", "1=(\n"]),
    "program": (
        PROGRAM,
        [
            "int f() {int integer = 1 + x;return integer;}",
            "int g() {if (a < 2) {ifs = 3;}}\nint h() {}",
        ],
        ["int f() {return 1}", "int () {}", "int f() {int 1 = 1;}"],
    ),
    "game": (GAME, ["1. e4 e5\n2. Nf3 Nc6\n3. O-O exd8=Q+\n"], ["1. e9 e5\n", "e4 e5\n"]),
    "japanese": (JAPANESE, ["これは本。\n「カナ」"], ["abc", "「これ"]),
    "outline": (OUTLINE, ["- a\n  - b\n- c\n", "- a b - c\n"], ["-a\n", "- \n"]),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_grammars_as_people_write_them(name: str) -> None:
    text, good, bad = PUBLISHED[name]
    made, rules = factory("gbnf", text), parse_gbnf(text)
    for each in good:
        assert recognises(rules, each), each
        assert takes(made, each), each
    others = [text[:i] + "x" + text[i:] for text in good for i in range(len(text))]
    for each in bad + others:
        assert takes(made, each) == recognises(rules, each), each


@pytest.mark.parametrize("name", ["MAX_STEPS", "MAX_PAIRS", "MAX_POSITIONS", "MAX_ROUNDS"])
def test_what_is_too_large_to_look_at_is_cut_into_characters(name: str, monkeypatch) -> None:
    text, good, bad = PUBLISHED["program"]
    monkeypatch.setattr(gbnf_lexer, name, 0)
    assert Words(parse_gbnf(text)).is_all_cut
    made = factory("gbnf", text)
    assert all(takes(made, each) for each in good)
    assert not any(takes(made, each) for each in bad)

"""GBNF as llama.cpp has it: what its grammars accept, what is wrong with others and where."""

from __future__ import annotations

import time

import pytest

from slotmux.server.grammars.gbnf import MAX_DEPTH, parse_gbnf
from slotmux.server.grammars.gbnf_lark import gbnf_to_lark
from slotmux.server.grammars.spec import MAX_BYTES, GrammarError
from tests.server.grammars.vocabulary import factory, takes
from tests.timing import judge

JSON = r"""
# one value
root   ::= value
value  ::= (object | array | string | number | "true" | "false" | "null") ws
object ::=
  "{" ws (
    string ":" ws value
    ("," ws string ":" ws value)*
  )? "}"
array  ::= "[" ws ( value ("," ws value)* )? "]"
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt/] | "u" [0-9a-fA-F]{4}) )* "\""
number ::= "-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]+)? ([eE] [-+]? [0-9]+)?
ws     ::= | " " | "\n" [ \t]{0,20}   # nothing, a blank, or a new line
"""

CASES = [
    ("literals", 'root ::= "yes" | "no"', ["yes", "no"], ["", "maybe", "yess"]),
    ("sequence", 'root ::= a "-" b\na ::= "x"\nb ::= "y"', ["x-y"], ["x-", "xy"]),
    ("star", 'root ::= "a"* "b"', ["b", "aab"], ["a", "ba"]),
    ("plus", 'root ::= ("ab")+', ["ab", "abab"], ["", "aba"]),
    ("optional", 'root ::= "a"? "b"', ["ab", "b"], ["a", "aab"]),
    ("exactly", 'root ::= "a"{3}', ["aaa"], ["aa", "aaaa"]),
    ("at least", 'root ::= "a"{2,}', ["aa", "aaaaa"], ["a"]),
    ("between", "root ::= [0-9]{1,3}", ["1", "123"], ["", "1234"]),
    ("at most", 'root ::= "a"{0,2} "b"', ["b", "aab"], ["aaab"]),
    ("ranges", "root ::= [a-cx_]+", ["abcx_"], ["d", ""]),
    ("all but", 'root ::= [^"\\n]+', ["a b", "é"], ["\n", '"']),
    ("dash", "root ::= [a-]+", ["a-a"], ["b"]),
    ("any", 'root ::= "<" .{2} ">"', ["<ab>", "<\né>"], ["<a>"]),
    ("escapes", r'root ::= "\x41é\U0001F600\t\\" [\]\[]', ["Aé😀\t\\]"], ["A"]),
    ("overlap", 'root ::= [a-z]+ "end"', ["xend", "endend", "enend"], ["end", "en"]),
    ("lines", 'root ::= "a" |\n  "b"\n  | ( "c"\n "d" )\n', ["a", "b", "cd"], ["c"]),
    ("nested", 'root ::= "(" root ")" | [a-z]+ "end"', ["((xend))", "(enend)"], ["(xend", "()"]),
    ("a word", 'root ::= "(" w root ")" | "-"\nw ::= [a-z]+ "end"', ["(enend-)", "-"], ["(en-)"]),
    ("left recursion", 'root ::= root "+" n | n\nn ::= [0-9]+', ["1+22+3"], ["+", "1+"]),
    ("nothing", 'root ::= "" | "a"', ["", "a"], ["b"]),
    ("names", 'root ::= my-Rule-1\nmy-Rule-1 ::= "a"', ["a"], ["b"]),
    ("windows", 'root ::= a\r\na ::= "x"\r\n', ["x"], ["y"]),
    ("json", JSON, ['{"a": [1, -2.5e+7, "\\u00e9é"], "b": {}}', "true", "[]\n  "], ['{"a"}', "01"]),
]


@pytest.mark.parametrize(("text", "good", "bad"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_grammar_takes_its_texts_and_no_others(text, good, bad) -> None:
    made = factory("gbnf", text)
    for each in good:
        assert takes(made, each), each
    for each in bad:
        assert not takes(made, each), each


def test_tokens_are_named_by_id_or_text() -> None:
    lark = gbnf_to_lark('root ::= <[267]> "a" !<[3]> <|end|>')
    assert "<[267]>" in lark
    assert "<[^3]>" in lark
    assert "<|end|>" in lark
    made = factory("gbnf", 'root ::= <|begin|> "a"')
    assert made().n_valid([267, ord("a")]) == 2
    assert made().n_valid([ord("<")]) == 0


WRONG = [
    ('root = "a"', "line 1, column 6: expected '::='"),
    ('a ::= "x"', "the grammar has no rule 'root'"),
    ("root ::= a", "line 1, column 10: there is no such rule"),
    ('root ::= "a', "line 1, column 12: a literal has no end"),
    ('root ::= "a\\q"', "line 1, column 12: this is no escape known here"),
    ('root ::= "\\xZZ"', "line 1, column 11: this is no escape known here"),
    ('root ::= "\\uD800"', "line 1, column 11: there is no such character"),
    ("root ::= [a", "line 1, column 12: a set of characters has no end"),
    ("root ::= []", "line 1, column 10: this set of characters is empty"),
    ("root ::= [z-a]", "line 1, column 14: a range of characters goes upwards"),
    ('root ::= ("a"', "line 1, column 14: expected ')'"),
    ('root ::= "a")', "line 1, column 13: expected the end of the line"),
    ('root ::= "a"{3,2}', "line 1, column 13: a repetition goes from less to more, up to 2000"),
    ('root ::= "a"{9999}', "line 1, column 13: a repetition goes from less to more, up to 2000"),
    ('root ::= "a"{x}', "line 1, column 13: expected {n}, {n,} or {n,m}"),
    ('root ::= "a"\nroot ::= "b"', "line 2, column 1: this rule is defined twice"),
    ('root ::= "a" = "b"', "line 1, column 14: expected the end of the line"),
    ("root ::= <a b>", "line 1, column 10: expected a token as <[id]> or <name>"),
    ("root ::= !<think>", "line 1, column 10: of tokens only an id can be excluded, as !<[id]>"),
    ("", "the grammar has no rule 'root'"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_wrong_is_told_with_its_place(text, message) -> None:
    with pytest.raises(GrammarError) as info:
        parse_gbnf(text)
    assert str(info.value) == message


DEEP = 60_000
HOSTILE = {
    "groups (llama.cpp #26600)": "root ::= " + "(" * DEEP + '"a"' + ")" * DEEP,
    "open groups (llama.cpp #19008)": "root ::= " + "(" * DEEP,
    "repetitions": 'root ::= "a"' + "*" * DEEP,
    "long": 'root ::= "' + "a" * MAX_BYTES + '"',
    "alternatives": "root ::= " + "|" * 2 * DEEP + " b",
    "references": "\n".join(f"r{i} ::= r{i + 1}" for i in range(9_000)),
    "names": "root ::= " + "a " * DEEP,
    "classes": "root ::= [" + "a-" * DEEP,
}


@pytest.mark.timed
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_grammars_are_refused_in_time_that_their_length_allows(name) -> None:
    begin = time.process_time()
    with pytest.raises(GrammarError):
        parse_gbnf(HOSTILE[name])
    judge(time.process_time() - begin < 1.0)


def test_many_rules_in_a_row_are_no_recursion() -> None:
    n = 5_000
    rules = [f'r{i} ::= "a" r{i + 1}' for i in range(n)]
    lark = gbnf_to_lark("\n".join(["root ::= r0", *rules, f'r{n} ::= "b"']))
    assert lark.count("\n") == n + 4


def test_groups_may_be_nested_as_deep_as_allowed() -> None:
    text = "root ::= " + "(" * MAX_DEPTH + '"a"' + ")" * MAX_DEPTH
    assert takes(factory("gbnf", text), "a")

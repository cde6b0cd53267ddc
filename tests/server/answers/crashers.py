"""Specifications that ended or stalled other servers, as they were published."""

from __future__ import annotations

import json
from typing import Any

DEEP = 60_000
CRASHERS: dict[str, dict[str, Any]] = {
    "open groups (llama.cpp #19008)": {"grammar": "root ::= " + "(" * DEEP},
    "groups (llama.cpp #26600)": {"grammar": "root ::= " + "(" * DEEP + '"a"' + ")" * DEEP},
    "pattern of groups (#26602)": {
        "json_schema": {"type": "string", "pattern": "^" + "(" * DEEP + "a" + ")" * DEEP + "$"}
    },
    "nested groups (#22606)": {"json_schema": {"type": "string", "pattern": "^((((((a$"}},
    "start optional (#13390)": {"json_schema": {"type": "string", "pattern": "^?"}},
    "bare star (#12252)": {"json_schema": {"type": "string", "pattern": "^*$"}},
    "left recursion (#25308)": {"grammar": "root ::= root"},
    "mutual recursion": {"grammar": "root ::= a\na ::= b\nb ::= a"},
    "repetitions (#25746)": {"grammar": 'root ::= ((("a"{2000}){2000}){2000}){2000}'},
    "$ref to itself (vLLM #57725)": {"json_schema": {"$ref": "#"}},
    "$ref in a circle": {
        "json_schema": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"},
                                                       "b": {"$ref": "#/$defs/a"}}}
    },
    "$ref far away": {"json_schema": {"$ref": "http://127.0.0.1:9/x.json"}},
    "bad regex (CVE-2025-48943)": {"guided_regex": "*"},
    "bad pattern (CVE-2025-48944)": {"json_schema": {"type": "string", "pattern": "\\"}},
    "bad type (CVE-2025-48944)": {"json_schema": {"type": "something"}},
    "type that is none (vLLM #43920)": {"json_schema": {"type": 3}},
    "properties that are none (vLLM #45346)": {"json_schema": {"properties": {"a": "x"}}},
    "backtracking": {"guided_regex": "(a+)+$"},
    "counted": {"guided_regex": "x{1,1000000000}"},
    "counted thrice": {"guided_regex": "((a{1000}){1000}){1000}"},
    "empty class": {"guided_regex": "[^]"},
    "back reference": {"guided_regex": r"(a)\1"},
    "look-behind": {"guided_regex": "(?<=a)b"},
    "many values": {"json_schema": {"enum": list(range(20_000))}},
    "many alternatives": {
        "json_schema": {"anyOf": [{"type": "object", "properties": {f"p{i}": {}}}
                                  for i in range(5_000)]}
    },
    "long minimum": {"json_schema": {"type": "string", "minLength": 10**9}},
    "large numbers": {"json_schema": {"type": "integer", "minimum": 10**18, "multipleOf": 7919}},
    "deep": {"json_schema": json.loads('{"items":' * 40 + "{}" + "}" * 40)},
    "patterns of names": {"json_schema": {"type": "object", "patternProperties": {"(a+)+$": {}}}},
    "two patterns": {"json_schema": {"type": "object", "patternProperties": {"a*": {}, "a+": {}}}},
    "a character that is none": {"grammar": 'root ::= "\\uD800"'},
    "nothing allowed": {"json_schema": {"enum": []}},
    "members of a type that is none (CVE-2025-48944)": {
        "json_schema": {"type": "object", "properties": {"a": {"type": "something"}}}
    },
    "pattern that is none (CVE-2025-48944)": {"json_schema": {"type": "string", "pattern": 3}},
    "items that are none": {"json_schema": {"type": "array", "items": "x"}},
    "required that is none": {"json_schema": {"type": "object", "required": "x"}},
    "$ref to nowhere": {"json_schema": {"$ref": "#/$defs/none"}},
    "$ref that is none": {"json_schema": {"$ref": 5}},
    "$defs that are none": {"json_schema": {"$ref": "#/$defs/a", "$defs": [1]}},
    "very deep (CVE-2025-57809)": {"json_schema": json.loads('{"items":' * 52 + "{}" + "}" * 52)},
    "start optional in a pattern of the middle": {"guided_regex": "a^?b"},
}  # fmt: skip

"""Grammars that answers keep to: JSON schemas, regexes, choices, GBNF and Lark, compiled safely."""

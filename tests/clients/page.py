"""The snippets of docs/clients.md, told where the server is."""

from __future__ import annotations

import re

from tests.clients.serving import ROOT

PAGE = (ROOT / "docs" / "clients.md").read_text()
THERE = "http://127.0.0.1:8080"
_SNIPPET = re.compile(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```(\w+)\n(.*?)^```", re.M | re.S)
SNIPPETS = {title: (language, text) for title, language, text in _SNIPPET.findall(PAGE)}


def snippet(title: str, url: str) -> str:
    """The one beneath a heading."""
    text = SNIPPETS[title][1]
    assert THERE in text
    return text.replace(THERE, url)


def variables(title: str, url: str) -> dict[str, str]:
    """What a snippet for a shell sets in front of its command."""
    words = snippet(title, url).split()
    return dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))

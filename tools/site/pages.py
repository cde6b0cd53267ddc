"""How the repository's Markdown becomes a site: which files are pages, where links lead there."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any

REPOSITORY = "https://github.com/slotmux/slotmux/blob/main"
DOCS = "docs"
# Files outside of docs/ that are pages, and what they are called there.
OUTSIDE: Mapping[str, str] = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "deploy/README.md": "deploy.md",
    "examples/README.md": "examples.md",
}
MORE = "More"

_FENCES = re.compile(r"(^```.*?^```[ \t]*$)", re.M | re.S)
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.I)


def with_links(markdown: str, source: str, page: str) -> str:
    """``markdown`` of the file ``source`` (a path in the repository), which is the page ``page`` of
    the site: links to other pages lead there, those to other files to the repository."""
    parts = _FENCES.split(markdown)  # every second one is a fence
    for i in range(0, len(parts), 2):
        parts[i] = _LINK.sub(lambda match: _target(match[1], source, page), parts[i])
    return "".join(parts)


def whole_nav(nav: list[Any], pages: Iterable[str]) -> list[Any]:
    """``nav`` without what is not among ``pages``, and with those that it does not name."""
    there = set(pages)
    kept = _kept(nav, there)
    missing = sorted(there - set(_named(kept)))
    return [*kept, {MORE: missing}] if missing else kept


def _target(link: str, source: str, page: str) -> str:
    if _SCHEME.match(link) or link.startswith(("#", "/")):
        return link
    path, mark, anchor = link.partition("#")
    file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    found = page_of(file)
    if found is None:
        return f"{REPOSITORY}/{file}{mark}{anchor}"
    return posixpath.relpath(found, posixpath.dirname(page) or ".") + mark + anchor


def page_of(file: str) -> str | None:
    """What a file of the repository is called on the site; None if it is not there."""
    if file in OUTSIDE:
        return OUTSIDE[file]
    is_file = bool(posixpath.splitext(file)[1])  # a folder is seen in the repository
    return file.removeprefix(f"{DOCS}/") if file.startswith(f"{DOCS}/") and is_file else None


def _kept(entries: list[Any], there: set[str]) -> list[Any]:
    kept: list[Any] = []
    for entry in entries:
        ((title, inside),) = entry.items()
        if isinstance(inside, list):
            inside = _kept(inside, there)
        elif inside not in there:
            continue
        if inside:
            kept.append({title: inside})
    return kept


def _named(entries: list[Any]) -> Iterable[str]:
    for entry in entries:
        for inside in entry.values():
            yield from _named(inside) if isinstance(inside, list) else [inside]

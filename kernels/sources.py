"""Which sources a kernel is made of: the cache keys it by these, so that an edit of one op does not
compile all others anew.

A kernel comes from the module that builds it and from what that imports within this package, at any
depth. The builder is found through what is handed to the cache: a function of this package, or a
small one elsewhere that calls it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

_PACKAGE = __name__.rpartition(".")[0]
# Whatever is compiled passes through these.
_ALWAYS = (f"{_PACKAGE}.codegen", f"{_PACKAGE}.compiler", f"{_PACKAGE}.cpu")
_IMPORT = re.compile(
    rf"^\s*(?:from|import) ({re.escape(_PACKAGE)}[\w.]*)(?: import (?:\(([^)]*)\)|([^\n(]*)))?",
    re.MULTILINE,
)


@cache
def _sources() -> dict[str, bytes]:
    """Every module of this package, as it was when first asked for."""
    root = Path(__file__).parent
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        found[".".join((_PACKAGE, *parts))] = path.read_bytes()
    return found


@cache
def source_digest(modules: frozenset[str] | None = None) -> str:
    """Of the sources of some modules and of all that they import; None: of the whole package."""
    sources = _sources()
    names = sources.keys() if modules is None else _closure(modules)
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode() + b"\0" + sources[name])
    return digest.hexdigest()


def kernel_digest(build: Callable[[], Any]) -> str:
    """Of everything that the kernel made by ``build`` consists of; of the whole package where it
    does not show which of its modules makes it."""
    modules = frozenset(_builders(build))
    return source_digest((modules | set(_ALWAYS)) if modules else None)


def _builders(build: Callable[[], Any]) -> Iterator[str]:
    """Modules of this package whose functions ``build`` is, holds or names."""
    code: CodeType | None = getattr(build, "__code__", None)
    if getattr(build, "__module__", None) in _sources():
        yield build.__module__
    elif code is not None:
        held = [cell.cell_contents for cell in getattr(build, "__closure__", None) or ()]
        held += [build.__globals__.get(name) for name in code.co_names]  # type: ignore[attr-defined]
        for value in held:
            module = getattr(value, "__module__", None)
            if callable(value) and module in _sources():
                yield module


@cache
def _imports(name: str) -> frozenset[str]:
    """Modules of this package that a module imports itself, and the packages around it."""
    sources = _sources()
    found = {name.rsplit(".", n)[0] for n in range(1, name.count("."))}
    for module, in_brackets, in_line in _IMPORT.findall(sources[name].decode()):
        found.add(module)
        names = (part.split() for part in (in_brackets or in_line).split(","))
        found |= {f"{module}.{words[0]}" for words in names if words}  # "x as y" is x
    return frozenset(found & sources.keys())


def _closure(modules: frozenset[str]) -> set[str]:
    seen: set[str] = set()
    todo = list(modules)
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += _imports(name)
    return seen

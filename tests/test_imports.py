"""What imports what: no circle, and nothing imports what stands above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("kernels", "runtime", "server", "deploy")  # each may import itself and those before it


@dataclass(frozen=True)
class Import:
    """One module of ours that another imports; ``is_typing``: only where types are checked."""

    importer: str
    imported: str
    is_typing: bool


def modules_of(root: Path) -> dict[str, Path]:
    """Every module of the packages, by its import name."""
    found = {}
    for layer in LAYERS:
        for path in (root / layer).rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            name = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join(("slotmux", *name))] = path
    return found


def imports_of(modules: dict[str, Path]) -> list[Import]:
    """All imports between ``modules``, those inside functions too."""
    return [
        Import(name, imported, is_typing)
        for name, path in modules.items()
        for imported, is_typing in _named(ast.parse(path.read_text()), modules)
    ]


def _named(tree: ast.AST, modules: dict[str, Path], is_typing: bool = False) -> Iterator[tuple]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from _named(ast.Module(node.body, []), modules, True)
            yield from _named(ast.Module(node.orelse, []), modules, is_typing)
            continue
        if isinstance(node, ast.Import):
            yield from ((a.name, is_typing) for a in node.names if a.name in modules)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports here are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                name = inner if inner in modules else node.module
                if name in modules:
                    yield name, is_typing
        yield from _named(node, modules, is_typing)


def circle_of(imports: list[Import]) -> list[str]:
    """Modules that import one another in a ring, or nothing."""
    graph: dict[str, set[str]] = {}
    for each in imports:
        graph.setdefault(each.importer, set()).add(each.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def upward(imports: list[Import]) -> list[Import]:
    """Imports of a package that stands above the importer's."""
    return [i for i in imports if _layer(i.imported) > _layer(i.importer)]


def _layer(name: str) -> int:
    return LAYERS.index(name.split(".")[1])


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    found = imports_of(modules_of(ROOT))
    assert len(found) > 500  # the packages are there and were read
    assert any(i.is_typing for i in found)
    return found


def test_no_module_imports_itself_through_others(imports):
    assert circle_of([i for i in imports if not i.is_typing]) == []


def test_types_make_no_circle_either(imports):
    assert circle_of(imports) == []


def test_nothing_imports_upward(imports):
    assert upward(imports) == []


def write(root: Path, files: dict[str, str]) -> list[Import]:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return imports_of(modules_of(root))


def test_a_circle_is_found_whatever_its_imports_look_like(tmp_path):
    found = write(
        tmp_path,
        {
            "runtime/__init__.py": "",
            "runtime/a.py": "import slotmux.runtime.b",
            "runtime/b.py": "def f():\n    from slotmux.runtime import c",
            "runtime/c.py": "from slotmux.runtime.a import f",
        },
    )
    assert set(circle_of(found)) == {f"slotmux.runtime.{m}" for m in "abc"}


def test_an_import_for_types_is_told_apart(tmp_path):
    text = "if TYPE_CHECKING:\n    from slotmux.runtime.b import B\n"
    text += "else:\n    import slotmux.runtime.c\n"
    found = write(
        tmp_path,
        {
            "runtime/a.py": text,
            "runtime/b.py": "import slotmux.runtime.a",
            "runtime/c.py": "",
        },
    )
    typing = [i.imported for i in found if i.is_typing]
    assert typing == ["slotmux.runtime.b"]
    assert circle_of([i for i in found if not i.is_typing]) == []
    assert circle_of(found) != []


def test_an_import_of_what_stands_above_is_found(tmp_path):
    found = write(
        tmp_path,
        {"kernels/a.py": "from slotmux.runtime.b import c", "runtime/b.py": "c = 1"},
    )
    assert [(i.importer, i.imported) for i in upward(found)] == [
        ("slotmux.kernels.a", "slotmux.runtime.b")
    ]

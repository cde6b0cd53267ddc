"""Functions of the kernels stay short."""

from __future__ import annotations

import ast
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).parent.parent
# build_attention and its chunk, which are to be taken apart with the next change of their op.
LONGEST = 90


def lengths(folder: Path) -> dict[str, int]:
    """Lines of every function, those within others among them, by file and name."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                name = f"{path.relative_to(folder)}:{node.lineno} {node.name}"
                found[name] = (node.end_lineno or 0) - node.lineno + 1
    return found


def test_functions_of_kernels_are_short():
    found = lengths(ROOT / "kernels")
    assert len(found) > 500
    assert median(found.values()) <= 8
    assert quantiles(found.values(), n=100)[98] <= 60
    assert {name: n for name, n in found.items() if n > LONGEST} == {}

"""What must be installed, named before anything is made."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence

from tools.golden.llama_source import LlamaCpp
from tools.golden.recipe import AnyRecipe, Recipe

ALWAYS = ("numpy", "gguf")
FOR_TRANSFORMERS = ("torch", "transformers", "safetensors", "tokenizers", "sentencepiece")


class MissingError(RuntimeError):
    """Something is not installed; the message says how to get it."""


def missing_modules(names: Iterable[str]) -> list[str]:
    return [name for name in names if importlib.util.find_spec(name) is None]


def require(recipes: Sequence[AnyRecipe], llama: LlamaCpp) -> None:
    """Raise MissingError unless everything that ``recipes`` need is there."""
    needs_transformers = any(isinstance(r, Recipe) for r in recipes)
    names = ALWAYS + (FOR_TRANSFORMERS if needs_transformers else ())
    lines = []
    if modules := missing_modules(names):
        lines.append(f"Python modules {', '.join(modules)}: pip install -e '.[golden]'")
    if files := llama.missing(quantises=any(r.quantised for r in recipes)):
        lines.append(
            f"{', '.join(map(str, files))}: python -m tools.golden.llama_source, "
            "or name a built llama.cpp with --llama-cpp"
        )
    if lines:
        raise MissingError("not installed:\n  " + "\n  ".join(lines))

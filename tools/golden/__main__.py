"""`python -m tools.golden NAME...` makes golden models; README.md here tells what it needs."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.golden.llama_source import DEFAULT, LlamaCpp
from tools.golden.needs import MissingError, require
from tools.golden.recipe import AnyRecipe
from tools.golden.recipes import RECIPES

GOLDEN = Path("tests/golden")


def arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.golden", description=__doc__)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="golden models to make, see --list")
    add("--list", action="store_true", help="name the recipes")
    add("--out", type=Path, default=GOLDEN, help="folder of golden models (%(default)s)")
    add("--llama-cpp", type=Path, default=DEFAULT, help="a built llama.cpp (%(default)s)")
    add("--replace", action="store_true", help="make anew what is there")
    add("--compare", type=Path, metavar="DIR", help="say where what was made differs from DIR's")
    parsed = parser.parse_args(given)
    if not parsed.names and not parsed.list:
        parser.error("name a golden model, or --list")
    unknown = [name for name in parsed.names if name not in RECIPES]
    if unknown:
        parser.error(f"no recipe for {', '.join(unknown)}; --list names them")
    return parsed


def make(recipes: Sequence[AnyRecipe], llama: LlamaCpp, out: Path, compare: Path | None) -> None:
    """Make each recipe's folder in ``out``."""
    from tools.golden.compare import differences
    from tools.golden.folder import write
    from tools.golden.measure import measure
    from tools.golden.references.llama_cpp import Library

    library = Library(llama.binaries)
    for recipe in recipes:
        with tempfile.TemporaryDirectory(prefix="golden-") as work:
            measured = measure(recipe, llama, library, Path(work))
            made = write(measured, out, library)
        print(
            f"{recipe.name}: {measured.n_parameters:,} parameters, references differ by "
            f"{measured.max_abs:.1e} at a deviation of {measured.deviation:.2f}, "
            f"argmax equal at {measured.argmax_agree:.0%}",
            flush=True,
        )
        if compare is not None:
            for line in [*differences(made, compare / recipe.name)] or ("the same bytes",):
                print(f"  {line}", flush=True)


def main(given: Sequence[str]) -> None:
    parsed = arguments(given)
    if parsed.list:
        print("\n".join(RECIPES))
        return
    recipes = [RECIPES[name] for name in parsed.names]
    llama = LlamaCpp.at(parsed.llama_cpp)
    try:
        require(recipes, llama)
    except MissingError as missing:
        sys.exit(str(missing))
    # After `require`: these import what may be missing.
    from tools.golden.folder import ExistsError, require_free
    from tools.golden.measured import DisagreementError
    from tools.golden.model.convert import ConversionError
    from tools.golden.references.llama_cpp import LlamaError

    try:
        for recipe in recipes:
            require_free(parsed.out, recipe.name, may_replace=parsed.replace)
        make(recipes, llama, parsed.out, parsed.compare)
    except (ExistsError, DisagreementError, ConversionError, LlamaError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])

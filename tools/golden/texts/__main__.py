"""`python -m tools.golden.texts NAME...` makes golden models that give vectors of texts."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.golden.llama_source import DEFAULT, LlamaCpp
from tools.golden.texts.recipes import RECIPES

GOLDEN = Path("tests/golden/texts")


def main(given: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.golden.texts", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", choices=[*RECIPES])
    parser.add_argument("--out", type=Path, default=GOLDEN)
    parser.add_argument("--llama-cpp", type=Path, default=DEFAULT)
    parser.add_argument("--replace", action="store_true", help="make anew what is there")
    parsed = parser.parse_args(given)
    from tools.golden.folder import ExistsError, require_free
    from tools.golden.references.llama_cpp import Library
    from tools.golden.texts.measure import DisagreementError, measure, write

    llama = LlamaCpp.at(parsed.llama_cpp)
    library = Library(llama.binaries)
    try:
        for name in parsed.names:
            require_free(parsed.out, name, may_replace=parsed.replace)
            with tempfile.TemporaryDirectory(prefix="golden-") as work:
                measured = measure(RECIPES[name], llama, library, Path(work))
                write(measured, parsed.out)
            print(
                f"{name}: vectors differ by {measured.max_abs:.1e} at a deviation of "
                f"{measured.deviation:.2f}",
                flush=True,
            )
    except (ExistsError, DisagreementError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])

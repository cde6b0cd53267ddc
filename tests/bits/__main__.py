"""Compare this machine with the table of bits, or make the table anew."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from slotmux.kernels.bits_version import BITS_VERSION
from slotmux.kernels.team import Team, make_team
from tests.bits.cases import TABLE, Case, cases, table, version
from tests.kernels.conftest import usable_isas

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / ".cache" / "kernels"
VERSION = ROOT / "kernels" / "bits_version.py"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bits", description=__doc__)
    parser.add_argument("--make", action="store_true", help=f"write {TABLE.name} (of --isa)")
    parser.add_argument("--isa", default="auto", help="auto, all, or one instruction set")
    parser.add_argument(
        "--only", default="", help="cases whose names hold one of these,with commas"
    )
    return parser.parse_args()


@contextmanager
def teams() -> Iterator[object]:
    made: list[Team] = []

    @cache
    def team_of(isa: str) -> Team:
        made.append(make_team(isa, 2, KERNELS))
        return made[-1]

    yield team_of
    for team in made:
        team.close()


def main() -> int:
    """0 when every line is the table's."""
    args = parsed()
    KERNELS.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = [c for c in cases() if any(part in c.name for part in args.only.split(","))]
    isas = usable_isas() if args.isa == "all" else [args.isa]
    with teams() as team_of:
        if args.make:
            known = table() if TABLE.exists() else {}
            found = {c.name: c.bits(isas[0], KERNELS, team_of) for c in wanted}
            changed = sum(known.get(name) != bits for name, bits in found.items())
            all_lines = {c.name: found.get(c.name) or known[c.name] for c in cases()}
            TABLE.write_text(json.dumps(all_lines, indent=1) + "\n")
            VERSION.write_text(VERSION.read_text().replace(BITS_VERSION, version()))
            print(f"{changed} of {len(all_lines)} lines are new or have changed")
            return 0
        return sum([_compare(case, isa, team_of) for isa in isas for case in wanted]) and 1


def _compare(case: Case, isa: str, team_of: object) -> bool:
    """Print a line; whether it differs."""
    differs = case.bits(isa, KERNELS, team_of) != table().get(case.name)
    print(f"{isa:11} {case.name:36} {'DIFFERS' if differs else 'same'}", flush=True)
    return differs


sys.exit(main())

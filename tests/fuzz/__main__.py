"""`make fuzz STEPS=100000`: random crowds over all golden models, until so many steps were made."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import ROOT
from tests.fuzz.crowd import play
from tests.fuzz.scene import scene

STEPS_OF_A_SCENE = 120


def main() -> int:
    """Status 1 and a line that reproduces it at the first difference."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first scene; others follow")
    parser.add_argument("--scenes", type=int, default=1 << 30, help="at most so many")
    args = parser.parse_args()
    cache = ROOT / ".cache" / "kernels"
    n_steps = n_compared = n_parked = n_accepted = n_forced = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.seed, args.seed + args.scenes):
            current = scene(seed, Path(folder))
            try:
                steps, compared, counters = play(current, STEPS_OF_A_SCENE, cache)
            except BaseException:
                print(f"{current}\npython -m tests.fuzz --seed {seed} --scenes 1", file=sys.stderr)
                raise
            n_steps, n_compared = n_steps + steps, n_compared + compared
            n_parked += counters.n_parked
            n_accepted += counters.n_draft_accepted
            n_forced += counters.n_forced_tokens
            if n_steps >= args.steps:
                break
    print(
        f"{n_steps} steps, {n_compared} choices each equal to itself alone, {n_parked} parked,"
        f" {n_accepted} drafts accepted, {n_forced} tokens forced, {time.monotonic() - began:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""slotmux beside llama.cpp and others on the same files: tokens a second, ratios, the limits.

Every file is measured by all programs in turn; a table (Markdown), a picture (SVG) and all
samples (JSON) are written after each test, and --resume goes on where a run was interrupted.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from slotmux.server.commands.bandwidth import measure_bandwidth
from slotmux.server.loading.cores import n_usable_cores
from tests.bench.cases import SUITE, TESTS, find_models, parse_tests
from tests.bench.plot import svg
from tests.bench.programs import LlamaCpp, Program, ProgramError, Slotmux
from tests.bench.quiet import Quiet
from tests.bench.report import into_page, markdown
from tests.bench.results import Run
from tests.bench.roofline import measure_roofline
from tests.bench.scripts import read_plan
from tests.bench.suite import Plan, run_suite
from tests.bench.synth import gguf_file as synth_gguf

ROOT = Path(__file__).resolve().parents[2]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    add = parser.add_argument
    add("--models", type=Path, metavar="DIR", help="folder of GGUF files, and those below it")
    add("--peer", type=Path, metavar="DIR", help="llama.cpp's tools (llama-bench, ...)")
    add("--peer-args", default="", help="further options for both of llama.cpp's tools")
    add(
        "--peers",
        type=Path,
        metavar="PLAN.json",
        help="further peers, by scripts (tests/bench/scripts.py)",
    )
    add("--only-peers", default="", help="names in that plan; default: all")
    add("--cases", default=",".join(SUITE), help="patterns of file names; default: the suite")
    add("--tests", default=TESTS, help="default: %(default)s")
    add("--make", action="store_true", help="make the suite's synthetic files that are missing")
    add("--rounds", type=int, default=3, help="of each test (default: 3)")
    add("--retries", type=int, default=2, help="of a round that was disturbed (default: 2)")
    add("--threads", type=int, default=0, help="0: one a physical core")
    add("--noisy", action="store_true", help="measure although the machine is not quiet")
    add("--out", type=Path, metavar="FILE.md", help="default: standard output; .svg beside it")
    add(
        "--json", type=Path, metavar="FILE", help="all samples, and what --resume and --render read"
    )
    add(
        "--resume",
        action="store_true",
        help="keep what --json holds, measure what is not there or failed",
    )
    add("--render", action="store_true", help="measure nothing: write the table of --json")
    options = parser.parse_args(arguments)
    if (options.resume or options.render) and not options.json:
        parser.error("--resume and --render read the file of --json")
    if not options.render and not options.models:
        parser.error("--models says where the files are")
    return options


def describe_machine(peer: LlamaCpp | None) -> dict[str, str]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else []:
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    )
    facts = {
        "CPU": f"{model}, {len(os.sched_getaffinity(0))} CPUs usable",
        "date": time.strftime("%Y-%m-%d"),
        "slotmux": done.stdout.strip() or "not a git checkout",
    }
    return facts | ({"peer": peer.version()} if peer else {})


def make_missing(missing: list[str], folder: Path, peer: Path | None) -> None:
    """The synthetic files among them, with the peer's quantiser for types not made here."""
    for name in missing:
        shape, _, rest = name.rpartition(".")[0].rpartition(".")
        if shape in synth_gguf.SHAPES:
            print(f"making {name} ...", file=sys.stderr, flush=True)
            synth_gguf.ensure(shape, rest, folder, peer and peer / "llama-quantize")


def prepare(options: argparse.Namespace) -> tuple[Plan, Run, Quiet]:
    """Raises ValueError or ProgramError for what cannot be measured as asked."""
    programs: list[Program] = [Slotmux()]
    peer = LlamaCpp(options.peer, options.peer_args.split()) if options.peer else None
    programs += [peer] if peer else []
    if options.peers:
        programs += read_plan(options.peers, [*filter(None, options.only_peers.split(","))])
    tests = parse_tests(options.tests)
    patterns = options.cases.split(",")
    models, missing = find_models(options.models, patterns)
    if options.make and missing:
        make_missing(missing, options.models, options.peer)
        models, missing = find_models(options.models, patterns)
    if not models:
        raise ValueError(f"no file below {options.models} matches; --make makes synthetic ones")
    n_threads = options.threads or n_usable_cores()
    quiet = Quiet(n_threads)
    complaint = quiet.complaint()
    if complaint and not options.noisy:
        raise ValueError(f"{complaint}; --noisy measures all the same")
    if options.resume and options.json.exists():
        run = Run.load(options.json)
        run.cells = [cell for cell in run.cells if not cell.errors]  # what failed is tried again
        run.missing = missing
    else:
        limits = asdict(measure_roofline(n_threads))
        run = Run(describe_machine(peer), limits, missing=missing)
    if complaint:
        run.machine["warning"] = complaint
    retries = 0 if options.noisy else options.retries
    plan = Plan(
        models,
        tests,
        programs,
        options.rounds,
        retries,
        n_threads,
        lambda: measure_bandwidth(n_threads),
    )
    return plan, run, quiet


def write(options: argparse.Namespace, run: Run) -> None:
    if options.json and not options.render:
        run.save(options.json)
    if options.out:
        picture = options.out.with_suffix(".svg")
        picture.write_text(svg(run))
        page = options.out.read_text() if options.out.exists() else ""
        options.out.write_text(into_page(page, markdown(run, picture.name)))


def main() -> int:
    options = parse()
    if options.render:
        run = Run.load(options.json)
        write(options, run)
    else:
        try:
            plan, run, quiet = prepare(options)
        except (ValueError, ProgramError) as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        run_suite(plan, run, quiet, lambda: write(options, run))
    if not options.out:
        print(markdown(run))
    return 0


if __name__ == "__main__":
    sys.exit(main())

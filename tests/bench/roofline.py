"""The physical limits of this machine: memory bandwidth, 8-bit and float multiply-adds.

    python -m tests.bench.roofline [--threads N] [--json]

Generation reads every weight once a step and cannot be faster than memory delivers them; a prompt
multiplies every weight by every token and cannot be faster than the units that multiply.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass

from slotmux.kernels.team import make_team
from slotmux.server.commands.bandwidth import measure_bandwidth
from slotmux.server.loading.cores import n_usable_cores
from tests.bench.peak import measure_peak


@dataclass(frozen=True, slots=True)
class Roofline:
    """Bytes and operations a second (a multiply-add is two operations) of ``n_threads``."""

    n_threads: int
    isa: str
    bytes_per_second: float
    int8_ops_per_second: float
    f32_ops_per_second: float


def measure_roofline(n_threads: int) -> Roofline:
    """Takes a few seconds and up to 2 GiB for that time."""
    team = make_team("auto", n_threads)
    try:
        int8, f32 = measure_peak(team, "int8"), measure_peak(team, "f32")
    finally:
        team.close()
    return Roofline(n_threads, str(team.kernels.cpu.isa), measure_bandwidth(n_threads), int8, f32)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.roofline", description=__doc__)
    parser.add_argument("--threads", type=int, default=0, help="0: one a physical core")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    limits = measure_roofline(options.threads or n_usable_cores())
    if options.json:
        print(json.dumps(asdict(limits)))
        return 0
    print(f"{limits.n_threads} threads, {limits.isa}")
    print(f"memory reads   {limits.bytes_per_second / 1e9:9.1f} GB/s")
    print(f"8-bit products {limits.int8_ops_per_second / 1e9:9.0f} GOP/s")
    print(f"float products {limits.f32_ops_per_second / 1e9:9.0f} GOP/s")
    ridge = limits.int8_ops_per_second / limits.bytes_per_second
    print(f"8-bit weights: bound by memory below {ridge / 2:.0f} tokens a forward")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What is measured: files, and tests such as pp512, tg128, tg128@4096 and tg64x8."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

# The suite of the documentation's table; a file is looked for by these patterns, in any case.
SUITE = (
    "SmolLM2-135M*Q4_1.gguf",
    "gemma-3-270m*q4_k_m.gguf",
    "qwen35-0.8b.Q4_K_M.gguf",
    "qwen35-0.8b.Q8_0.gguf",
    "qwen35-0.8b.Q6_K.gguf",
    "qwen35-0.8b.Q2_K.gguf",
    "qwen35-0.8b.IQ4_XS.gguf",
    "qwen35-0.8b.BF16.gguf",
    "lfm2-350m.Q4_K_M.gguf",
    "mamba-130m.Q8_0.gguf",
    "llama-1b.Q4_K_M.gguf",
    "qwen35moe-like.Q4_K_M.gguf",
)
TESTS = "pp512,pp2048,tg128,tg128@4096,tg128x8"

_TEST = re.compile(r"(pp|tg)([1-9]\d*)(?:x([1-9]\d*))?(?:@(\d+))?")
# A file's type at the end of its name, behind a dot, dash or underscore.
_TYPE = re.compile(r"[.\-_]((?:UD-)?I?Q\d\w*|MXFP4\w*|NVFP4|TQ\d_0|B?F16|F32)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SpeedTest:
    """A prompt (pp) or generation (tg) of ``n`` tokens by ``n_parallel`` sequences, each behind
    ``depth`` tokens."""

    kind: str
    n: int
    n_parallel: int = 1
    depth: int = 0

    def __str__(self) -> str:
        parallel = f"x{self.n_parallel}" if self.n_parallel > 1 else ""
        return f"{self.kind}{self.n}{parallel}" + (f"@{self.depth}" if self.depth else "")


def parse_tests(text: str) -> list[SpeedTest]:
    """ "pp512,tg128x8@4096": raises ValueError naming the part that is no test."""
    tests = []
    for part in text.split(","):
        found = _TEST.fullmatch(part.strip())
        if not found:
            raise ValueError(
                f"{part!r} is no test; tests look like pp512, tg128, tg64x8, tg64@4096"
            )
        kind, n, n_parallel, depth = found.groups()
        tests.append(SpeedTest(kind, int(n), int(n_parallel or 1), int(depth or 0)))
    return tests


def find_models(folder: Path, patterns: list[str]) -> tuple[list[Path], list[str]]:
    """Files below ``folder`` that match, in the order of the patterns, and patterns without one."""
    files = sorted(folder.rglob("*.gguf"))
    found: list[Path] = []
    missing = []
    for pattern in patterns:
        matches = [f for f in files if fnmatch(f.name.lower(), pattern.strip().lower())]
        if not matches:
            missing.append(pattern)
        for match in matches:  # of copies in several folders the first
            if match.name not in {f.name for f in found}:
                found.append(match)
    return found, missing


def split_name(path: Path) -> tuple[str, str]:
    """Model and type, as the file's name tells them."""
    found = _TYPE.search(path.stem)
    return (path.stem[: found.start()], found[1].upper()) if found else (path.stem, "?")

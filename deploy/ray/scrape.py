"""The /metrics of all replicas as one page: each sample says whose it is."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?P<labels>.*)\})? (?P<value>\S+)")


@dataclass(frozen=True, slots=True)
class Scraped:
    """What one replica answered."""

    replica: str
    status: int
    text: str


def merged(pages: list[Scraped]) -> str:
    """Prometheus' text format, where a family stands together: its help, then all samples."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for page in pages:
        family = ""
        for line in page.text.splitlines():
            if line.startswith("# HELP "):
                family = line.split(" ", 3)[2]
                head = heads.setdefault(family, [])
            if line.startswith("#"):
                if line not in head:
                    head.append(line)
            elif line:
                samples.setdefault(family, []).append(_of(page.replica, line))
    lines = [line for family in heads for line in (*heads[family], *samples.get(family, ()))]
    return "".join(f"{line}\n" for line in lines)


def _of(replica: str, sample: str) -> str:
    found = _SAMPLE.fullmatch(sample)
    assert found is not None, sample
    labels = found["labels"]
    more = f",{labels}" if labels else ""
    return f'{found["name"]}{{replica="{replica}"{more}}} {found["value"]}'

"""What clients see of a server under a load: waits, speed, pauses, and who is well served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Bounds:
    """A request is well served within these milliseconds: to its first token, and a token after
    that in the mean."""

    ttft_ms: float
    tpot_ms: float


def served(answer: dict[str, Any]) -> dict[str, float]:
    """Milliseconds of one answer: ``ttft`` to the first text, ``tpot`` a token after it in the mean
    (0 of a single token), ``pause`` the longest between two pieces of text."""
    times = np.array(answer["times"]) * 1e3
    n_later = answer["n_tokens"] - 1
    return {
        "ttft": float(times[0] - answer["sent"] * 1e3),
        "tpot": float(times[-1] - times[0]) / n_later if n_later > 0 else 0.0,
        "pause": float(np.diff(times).max()) if len(times) > 1 else 0.0,
    }


def summary(answers: Sequence[dict[str, Any]], bounds: Bounds) -> dict[str, float]:
    """``goodput``: well served requests a second, from the first request to the last text; errors
    are not well served. Percentiles are of the requests that were answered."""
    whole = [answer for answer in answers if not answer["error"]]
    out = {"n": float(len(answers)), "n_errors": float(len(answers) - len(whole))}
    if not whole:
        return out
    seen = [served(answer) for answer in whole]
    good = [s["ttft"] <= bounds.ttft_ms and s["tpot"] <= bounds.tpot_ms for s in seen]
    seconds = max(a["times"][-1] for a in whole) - min(a["sent"] for a in answers)
    out |= {
        "seconds": seconds,
        "tokens_per_second": sum(a["n_tokens"] for a in whole) / seconds,
        "requests_per_second": len(whole) / seconds,
        "goodput": sum(good) / seconds,
        "share_good": sum(good) / len(answers),
        "longest_pause_ms": max(s["pause"] for s in seen),
    }
    for name in ("ttft", "tpot", "pause"):
        values = [s[name] for s in seen]
        out |= {f"{name}_ms_p{p}": float(np.percentile(values, p)) for p in PERCENTILES}
    return out


def capacity(answers: Sequence[dict[str, Any]]) -> float:
    """Requests a second of a server that never had a free slot: those that ended before the last
    one was sent, when others were still waiting. ValueError where one failed."""
    for answer in answers:
        if answer["error"]:
            raise ValueError(answer["error"])
    begin, last = min(a["sent"] for a in answers), max(a["sent"] for a in answers)
    n = sum(a["times"][-1] <= last for a in answers)
    if n < 2 or last <= begin:
        raise ValueError(f"{len(answers)} requests are too few to fill the slots")
    return n / (last - begin)

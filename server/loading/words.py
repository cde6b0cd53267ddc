"""Sizes of memory in words."""

from __future__ import annotations


def mib(n_bytes: float) -> str:
    """Bytes, as plans and refusals tell them."""
    return f"{n_bytes / 2**20:.0f} MiB"

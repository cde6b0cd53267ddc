"""The version, as the installed package says; pyproject.toml is where it is written."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def slotmux_version() -> str:
    """Such as "0.1.0"; "unknown" in a copy of the sources that was never installed."""
    try:
        return version("slotmux")
    except PackageNotFoundError:
        return "unknown"

"""Where the `slotmux` command begins: an interrupt at any moment, imports too, is one line."""

from __future__ import annotations

import sys

EXIT_INTERRUPTED = 130


def main() -> None:
    """Entry point of the console script."""
    try:
        from slotmux.server.cli import main as command

        command()
    except KeyboardInterrupt:
        print("slotmux: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)

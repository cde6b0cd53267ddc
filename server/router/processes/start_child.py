"""Where a model's process begins: it is tied to the router before anything large is imported."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Has this process end when its ``parent`` does, however that ends. The end of a pipe says so
    everywhere, but to a thread, which compiled code may keep waiting."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    from slotmux.server.router.processes.child import main

    sys.exit(main())

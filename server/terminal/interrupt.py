"""Ctrl-C that cannot get lost.

Python drops an exception that is raised while it finalises an object or is called back from C: a
signal that comes just then would be forgotten. Here it is remembered, too.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Within, Ctrl-C raises KeyboardInterrupt at once; where that was dropped, the function that is
    given raises it when it is called next. Outside of the main thread nothing changes."""
    was_pressed = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal was_pressed
        was_pressed = True
        raise KeyboardInterrupt

    def check() -> None:
        if was_pressed:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    before = signal.signal(signal.SIGINT, remember)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)

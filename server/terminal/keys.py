"""What a terminal does with keys while nobody reads a line."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator

_FLAGS = 3  # the place of local flags in what tcgetattr returns


@contextlib.contextmanager
def unseen() -> Iterator[None]:
    """Keys are not shown, so that they do not stand in the middle of an answer; what is typed is
    read later. Ctrl-C stays what it is. Nothing changes where standard input is no terminal."""
    with _kept() as descriptor:
        if descriptor is not None:
            settings = termios.tcgetattr(descriptor)
            settings[_FLAGS] &= ~termios.ECHO
            termios.tcsetattr(descriptor, termios.TCSADRAIN, settings)
        yield


@contextlib.contextmanager
def one_by_one() -> Iterator[None]:
    """Keys come at once, without a line's end, and are not shown. Ctrl-C stays what it is."""
    with _kept() as descriptor:
        if descriptor is not None:
            tty.setcbreak(descriptor)
        yield


def is_left(seconds: float) -> bool:
    """Waits so long; True as soon as q or Ctrl-D says so."""
    descriptor = sys.stdin.fileno()
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], left)[0]:
            break
        pressed = os.read(descriptor, 64)
        if not pressed or b"q" in pressed or b"\x04" in pressed:
            return True
    return False


@contextlib.contextmanager
def _kept() -> Iterator[int | None]:
    """The terminal that standard input is, None if it is none; its settings come back."""
    if not sys.stdin.isatty():
        yield None
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

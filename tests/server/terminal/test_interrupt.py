"""Ctrl-C is not lost where Python drops exceptions."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from slotmux.server.terminal.interrupt import interruptible


class Dropping:
    """Is interrupted while it is finalised."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass  # the signal is seen in here


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_comes_with_the_next_check() -> None:
    with interruptible() as check:
        check()
        dropping = [Dropping()]
        dropping.clear()
        with pytest.raises(KeyboardInterrupt):
            check()


def test_an_interrupt_comes_at_once_and_the_handler_is_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_on_another_thread_nothing_changes() -> None:
    found = []

    def run() -> None:
        before = signal.getsignal(signal.SIGINT)
        with interruptible() as check:
            check()
            found.append(signal.getsignal(signal.SIGINT) is before)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [True]

"""`slotmux top`: the board of a running server, in the terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.live import Live

from slotmux.server.commands.flags import takes_settings
from slotmux.server.commands.options import option
from slotmux.server.commands.ps import KeyOpt, UrlArg
from slotmux.server.settings import Settings

_ALL_LINES = 1 << 16

if TYPE_CHECKING:
    from slotmux.server.terminal.board import Board
    from slotmux.server.terminal.client import Server


@takes_settings()
def top(
    settings: Settings,
    url: UrlArg = None,
    api_key: KeyOpt = "",
    interval: Annotated[
        float, option("--interval", "-d", min=0.1, max=60, help="Seconds from look to look.")
    ] = 1.0,
    once: Annotated[
        bool, option("--once", help="Two looks, one board, no keys; so does a pipe.")
    ] = False,
) -> None:
    """Show what a running server does: its slots, queue, caches, memory and tokens a second.

    q or Ctrl-C leaves.
    """
    from slotmux.server.terminal.board import Board
    from slotmux.server.terminal.client import RefusedError, Server, address_here, address_of
    from slotmux.server.terminal.look import look_at

    key = api_key.partition(",")[0]
    address = address_of(url, key) if url else address_here(settings.host, settings.port, key)
    console = Console()
    board = Board(f"slotmux top   {address.url}")
    is_watched = console.is_terminal and sys.stdin.isatty() and not once
    with Server(address) as server:
        try:
            board.take(look_at(server))
        except RefusedError as error:
            if not is_watched or error.status != 503:  # what is refused at first stays so
                raise
            board.cannot_look(f"{error}; trying again ...")
        if is_watched:
            _watch(server, board, console, interval)
        else:
            time.sleep(interval)
            board.take(look_at(server))
            console.print(board.draw(console.width, _ALL_LINES))


def _watch(server: Server, board: Board, console: Console, interval: float) -> None:
    """Until a key says so."""
    from slotmux.server.terminal.client import RefusedError
    from slotmux.server.terminal.interrupt import interruptible
    from slotmux.server.terminal.keys import is_left, one_by_one
    from slotmux.server.terminal.look import look_at

    first = board.draw(console.width, console.height)
    with (
        contextlib.suppress(KeyboardInterrupt),  # which is how one leaves
        interruptible() as check,
        one_by_one(),
        Live(first, console=console, screen=True, auto_refresh=False) as live,
    ):
        while not is_left(interval):
            check()
            try:
                board.take(look_at(server))
            except RefusedError as error:
                board.cannot_look(f"{error}; trying again ...")
            live.update(board.draw(console.width, console.height), refresh=True)

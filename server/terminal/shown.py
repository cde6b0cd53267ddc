"""How an answer looks while it comes: as rendered Markdown on a terminal, else as it is."""

from __future__ import annotations

import sys
import time
from typing import IO, Literal, Protocol

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment
from rich.text import Text

from slotmux.server.terminal.markdown_blocks import last_lines, whole_blocks

Thoughts = Literal["folded", "full", "off"]
_FRAMES_PER_SECOND = 12
_THOUGHT_LINES = 4  # that are seen of one that is folded
_CONTROLS = {i: None for i in (*range(0x20), *range(0x7F, 0xA0)) if chr(i) not in "\n\t"}


class View(Protocol):
    """Takes the pieces of one answer. ``end`` is called once, whatever happened."""

    def thought(self, text: str) -> None: ...

    def text(self, text: str) -> None: ...

    def end(self) -> None: ...


class PlainView:
    """Text as it comes. Thoughts go to standard error, and only in full; for a terminal, without
    what could move its cursor."""

    def __init__(self, thoughts: Thoughts, out: IO[str] | None = None) -> None:
        self._out: IO[str] = out or sys.stdout
        self._is_terminal = self._out.isatty()
        self._thoughts = thoughts
        self._last = self._last_thought = "\n"

    def thought(self, text: str) -> None:
        if self._thoughts == "full":
            self._last_thought = text[-1:] or self._last_thought
            print(visible(text), end="", file=sys.stderr, flush=True)

    def text(self, text: str) -> None:
        if self._last_thought != "\n":
            print(file=sys.stderr, flush=True)
            self._last_thought = "\n"
        self._last = text[-1:] or self._last
        self._out.write(visible(text) if self._is_terminal else text)
        self._out.flush()

    def end(self) -> None:
        if self._last != "\n":
            self._out.write("\n")
            self._out.flush()


class MarkdownView:
    """Whole blocks are rendered where they stay, what is still being written below them anew with
    every frame. Thoughts are dim, and folded into a line once they end."""

    def __init__(self, console: Console, thoughts: Thoughts) -> None:
        self._console = console
        self._thoughts = thoughts
        self._thought = self._tail = ""
        self._thinks_since = 0.0
        self._n_blocks = 0
        self._live = Live(
            console=console,
            get_renderable=self._unfinished,
            refresh_per_second=_FRAMES_PER_SECOND,
            transient=True,
        )
        self._live.start()

    def thought(self, text: str) -> None:
        if not self._thought:
            self._thinks_since = time.monotonic()
        self._thought += visible(text)

    def text(self, text: str) -> None:
        self._end_thought()
        self._tail += visible(text)
        if "\n" not in text:
            return
        blocks, self._tail = whole_blocks(self._tail)
        for block in blocks:
            self._print(block)

    def end(self) -> None:
        self._end_thought()
        tail, self._tail = self._tail, ""
        self._live.stop()
        if tail.strip():
            self._print(tail)

    def _end_thought(self) -> None:
        if not self._thought:
            return
        thought, self._thought = self._thought.strip(), ""
        seconds = time.monotonic() - self._thinks_since
        if self._thoughts == "full":
            self._console.print(Text(thought, style="dim"))
        if self._thoughts != "off":
            words = f"thought for {seconds:.1f} s, {len(thought.split())} words"
            self._console.print(Text(f"[{words}]", style="dim italic"))

    def _print(self, block: str) -> None:
        if self._n_blocks:
            self._console.print()
        self._n_blocks += 1
        self._console.print(_rendered(block))

    def _unfinished(self) -> _Bottom | Text:
        if self._thought and self._thoughts == "off":
            return Text("thinking ...", style="dim italic")
        if self._thought:
            n_lines = 0 if self._thoughts == "full" else _THOUGHT_LINES
            # A character fills a cell at most: more than a screenful need not be laid out.
            n_seen = self._console.height * self._console.width
            return _Bottom(Text(self._thought[-n_seen:].strip(), style="dim"), n_lines)
        if not self._tail.strip():
            return Text("" if self._n_blocks else "...", style="dim")
        seen = last_lines(self._tail, self._console.height)
        return _Bottom(_rendered(seen), 0, has_gap=self._n_blocks > 0)


class _Bottom:
    """The last lines of something: ``n_lines``, and never more than fit the terminal."""

    def __init__(self, inner: Markdown | Text, n_lines: int, *, has_gap: bool = False) -> None:
        self._inner = inner
        self._n_lines = n_lines
        self._has_gap = has_gap

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        n_lines = min(self._n_lines or console.height, max(console.height - 2, 1))
        lines = console.render_lines(self._inner, options.update(height=None), pad=False)
        if self._has_gap:
            yield Segment.line()
        for line in lines[-n_lines:]:
            yield from line
            yield Segment.line()


def visible(text: str) -> str:
    """``text`` without control characters other than line breaks and tabs: a model's answer does
    not move the cursor."""
    return text.translate(_CONTROLS)


def _rendered(text: str) -> Markdown:
    # A theme of the terminal's own colours: it is readable on light ones, too.
    return Markdown(text, code_theme="ansi_dark")

"""The board of `slotmux top`: what a server does, drawn from one look after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from slotmux.runtime.ubatch import BLOCK_CELLS
from slotmux.server.terminal.look import Look, SlotLook
from slotmux.server.terminal.words import printable, size, sparkline

N_KEPT = 120  # rates that the lines of bars show, at most
_LINES_ABOVE = 13  # of the slots, at most
_BAR, _REST = "█", "░"
_BAR_WIDTH = 24
_STYLES = {"generating": "green", "prompt": "yellow", "waiting": "cyan", "busy": "green"}
_STATE_WIDTH = max(map(len, _STYLES))
_GENERATED = "llamacpp:tokens_predicted_total"
_PROMPT = "llamacpp:prompt_tokens_total"


class Board:
    """``take`` a look every second or so, then ``draw``."""

    def __init__(self, title: str) -> None:
        self._title = printable(title)
        self._looks: deque[Look] = deque(maxlen=2)
        self._generated: deque[float] = deque(maxlen=N_KEPT)
        self._prompt: deque[float] = deque(maxlen=N_KEPT)
        self._trouble = ""

    def take(self, look: Look) -> None:
        """What the server does now."""
        self._trouble = ""
        self._looks.append(look)
        if len(self._looks) == 2:
            self._generated.append(self._rate(_GENERATED))
            self._prompt.append(self._rate(_PROMPT))

    def cannot_look(self, why: str) -> None:
        """The server did not answer; what was seen last stays."""
        self._trouble = why
        self._generated.append(0.0)
        self._prompt.append(0.0)

    def draw(self, width: int, height: int) -> RenderableType:
        """For a terminal of so many columns and lines: where slots are more than fit, the busy
        ones."""
        head = Text.assemble((self._title, "bold"))
        if self._trouble:
            return Group(head, Text(self._trouble, style="red"))
        if not self._looks:
            return head
        look = self._looks[-1]
        n_busy = sum(slot.is_busy for slot in look.slots)
        n_waiting = look.metric("slotmux_queue_length") or look.metric("llamacpp:requests_deferred")
        head.append(f"   {n_busy} of {len(look.slots)} slots busy, {n_waiting:.0f} waiting")
        slots = look.slots
        if len(slots) > height - _LINES_ABOVE:
            slots = tuple(slot for slot in slots if slot.is_busy)
        return Group(head, Text(), self._facts(look, width), Text(), self._slots(slots))

    def _facts(self, look: Look, width: int) -> Group:
        n_bars = max(10, min(N_KEPT, width - 32))
        lines: list[RenderableType] = []
        for name, rates in (("generated", self._generated), ("prompts", self._prompt)):
            now = f"{rates[-1]:.0f} tokens/s" if rates else ""
            lines.append(_line(name, Text(sparkline(rates, n_bars), style="green"), now))
        lines += [_line(name, bar, text) for name, bar, text in _memory(look)]
        lines.append(_line("latency", Text(), self._latency(look)))
        return Group(*lines)

    def _latency(self, look: Look) -> str:
        """Means since the look before; since the start where nothing ended meanwhile."""
        first = self._mean(look, "slotmux_time_to_first_token_seconds")
        gap = self._mean(look, "slotmux_inter_token_latency_seconds")
        parts = []
        if first is not None:
            parts.append(f"first token {1000 * first:.0f} ms")
        if gap is not None:
            parts.append(f"between tokens {1000 * gap:.1f} ms")
        return ", ".join(parts) or "nothing was answered yet"

    def _mean(self, look: Look, name: str) -> float | None:
        """Of a histogram."""
        before = self._looks[0] if len(self._looks) == 2 else None
        n, total = look.metric(f"{name}_count"), look.metric(f"{name}_sum")
        if before is not None and n > before.metric(f"{name}_count"):
            n -= before.metric(f"{name}_count")
            total -= before.metric(f"{name}_sum")
        return total / n if n else None

    def _slots(self, slots: tuple[SlotLook, ...]) -> Table:
        has_models = len({slot.model for slot in slots}) > 1
        has_clients = any(slot.client for slot in slots)
        has_states = any(slot.n_states for slot in slots)
        headings = ["SLOT", "STATE", "REQUEST", "TOKENS/S", "PROMPT", "CACHED", "ANSWER", "CELLS"]
        headings += ["STATES"] * has_states + ["DRAFTS OK"]
        headings += ["CLIENT"] * has_clients + ["MODEL"] * has_models
        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in headings:
            is_text = heading in ("STATE", "CLIENT", "MODEL")
            # Where there is no room for all, states are still told apart.
            width = _STATE_WIDTH if heading == "STATE" else None
            justify: JustifyMethod = "left" if is_text else "right"
            table.add_column(heading, justify=justify, no_wrap=True, min_width=width)
        for slot in slots:
            row = self._cells_of(slot)
            row += [str(slot.n_states or "")] * has_states
            row.append(_percent(slot.n_accepted, slot.n_drafted))
            row += [printable(slot.client or "")] * has_clients
            row += [printable(slot.model)] * has_models
            table.add_row(*row, style="" if slot.is_busy else "dim")
        return table

    def _cells_of(self, slot: SlotLook) -> list[RenderableType]:
        state = Text(printable(slot.state), style=_STYLES.get(slot.state, ""))
        if not slot.is_busy:
            return [str(slot.id), state, *[""] * 6]
        rate = self._rate_of(slot)
        return [
            str(slot.id),
            state,
            str(slot.request),
            "" if rate is None else f"{rate:.1f}",
            str(slot.n_prompt),
            str(slot.n_cached),
            str(slot.n_generated),
            str(slot.n_blocks * BLOCK_CELLS),
        ]

    def _rate_of(self, slot: SlotLook) -> float | None:
        """Tokens a second of the choice in a slot: computed ones of a prompt, else generated."""
        if len(self._looks) < 2:
            return None
        before, now = self._looks
        for old in before.slots:
            if old.id == slot.id and old.run == slot.run:
                n = slot.n_generated - old.n_generated
                if slot.state == "prompt":
                    n = slot.n_computed - old.n_computed
                return max(n, 0) / (now.at - before.at)
        return None

    def _rate(self, counter: str) -> float:
        """Of a counter, a second; a server that was started anew begins at 0."""
        before, now = self._looks
        n = now.metric(counter) - before.metric(counter)
        return max(n, 0.0) / (now.at - before.at)


def _line(name: str, bar: Text, text: str) -> Text:
    return Text.assemble((f"{name:<10}", "dim"), bar, "  " * bool(bar), text, no_wrap=True)


def _memory(look: Look) -> Iterator[tuple[str, Text, str]]:
    n_blocks = look.metric("slotmux_kv_blocks")
    if n_blocks:
        n_kept = look.metric("slotmux_kv_blocks_cached")
        n_used = n_blocks - look.metric("slotmux_kv_blocks_free") - n_kept
        told = f"{n_used * BLOCK_CELLS:.0f} of {n_blocks * BLOCK_CELLS:.0f} used"
        kept = f", {n_kept * BLOCK_CELLS:.0f} kept as prefixes"
        yield "cells", _bar(n_used / n_blocks, n_kept / n_blocks), told + kept
    n_rows = look.metric("slotmux_state_rows")
    if n_rows:
        n_used = n_rows - look.metric("slotmux_state_rows_free")
        n_copies = look.metric("slotmux_checkpoints")
        text = f"{n_used:.0f} of {n_rows:.0f} used, {n_copies:.0f} of them kept copies"
        yield "states", _bar((n_used - n_copies) / n_rows, n_copies / n_rows), text
    queried = look.metric("vllm:prefix_cache_queries_total")
    if queried:
        hits = look.metric("vllm:prefix_cache_hits_total")
        yield "prefixes", _bar(hits / queried), f"{_percent(hits, queried)} of prompts in memory"
    n_drafted = look.metric("vllm:spec_decode_num_draft_tokens_total")
    if n_drafted:
        n_accepted = look.metric("vllm:spec_decode_num_accepted_tokens_total")
        text = f"{_percent(n_accepted, n_drafted)} of {n_drafted:.0f} accepted"
        yield "drafts", _bar(n_accepted / n_drafted), text
    resident = look.metric("process_resident_memory_bytes")
    if resident:
        yield "memory", Text(), f"{size(resident)} resident"


def _bar(used: float, kept: float = 0.0) -> Text:
    """A bar of what is used, and dimmed of what is kept."""
    n_used = round(min(max(used, 0.0), 1.0) * _BAR_WIDTH)
    n_kept = min(round(max(kept, 0.0) * _BAR_WIDTH), _BAR_WIDTH - n_used)
    rest = _REST * (_BAR_WIDTH - n_used - n_kept)
    return Text.assemble((_BAR * n_used, "green"), (_BAR * n_kept, "blue"), (rest, "dim"))


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else ""

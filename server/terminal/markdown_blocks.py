"""Where Markdown that is still being written can be cut: what is above no longer changes."""

from __future__ import annotations

import re

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_LIST = re.compile(r" {0,3}([-*+]|\d{1,9}[.)])\s")


def whole_blocks(text: str) -> tuple[list[str], str]:
    """The blocks of ``text`` that are complete, and the rest. A block ends at blank lines outside
    of a fence, if what follows is neither indented nor one more item of the same list."""
    blocks: list[str] = []
    block: list[str] = []
    fence = ""
    is_blank = False
    *lines, rest = text.split("\n")
    for line in lines:
        if not fence and is_blank and line.strip() and _is_new(line, block):
            blocks.append("\n".join(block).strip("\n"))
            block = []
        block.append(line)
        fence = _fence_after(line, fence)
        is_blank = not line.strip()
    return [b for b in blocks if b.strip()], "\n".join([*block, rest])


def last_lines(text: str, n: int) -> str:
    """The last ``n`` lines of a block that is still being written, in the fence that they are in:
    what a screen shows of it, without the cost of the rest."""
    lines = text.split("\n")
    if len(lines) <= n:
        return text
    fence, opening = "", ""
    for line in lines[:-n]:
        before, fence = fence, _fence_after(line, fence)
        opening = line if fence and not before else opening
    return "\n".join([opening, *lines[-n:]] if fence else lines[-n:])


def _is_new(line: str, block: list[str]) -> bool:
    """Whether ``line``, behind a blank one, begins a block of its own."""
    if line[:1] in (" ", "\t"):
        return False
    first = next((each for each in block if each.strip()), "")
    return not (_LIST.match(first) and _LIST.match(line))


def _fence_after(line: str, fence: str) -> str:
    """The open fence behind ``line``, '' if none is."""
    found = _FENCE.match(line)
    if not fence:
        return found[1] if found else ""
    closes = found is not None and found[1].startswith(fence) and not line.strip().strip(fence[0])
    return "" if closes else fence

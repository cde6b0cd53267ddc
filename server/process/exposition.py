"""/metrics of several processes as one: every sample says of which it is."""

from __future__ import annotations

from collections.abc import Mapping

_HELP = b"# HELP "
_ESCAPES = ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"))


def merged(label: str, pages: Mapping[str, bytes], own: bytes = b"") -> bytes:
    """Text expositions as one, each family once; the samples of each of ``pages`` get its name as
    ``label``. ``own``: of who merges, without one."""
    heads: dict[bytes, list[bytes]] = {}
    samples: dict[bytes, list[bytes]] = {}
    _add(own, b"", heads, samples)
    for name, text in pages.items():
        _add(text, b'%b="%b"' % (label.encode(), _escaped(name)), heads, samples)
    lines = (line for family in heads for line in (*heads[family], *samples[family]))
    return b"".join(line + b"\n" for line in lines)


def _add(
    text: bytes, label: bytes, heads: dict[bytes, list[bytes]], samples: dict[bytes, list[bytes]]
) -> None:
    name, is_new = b"", False
    for line in text.splitlines():
        if line.startswith(_HELP):
            name = line[len(_HELP) :].partition(b" ")[0]
            is_new = name not in heads
            heads.setdefault(name, [])
            samples.setdefault(name, [])
        if not line:
            continue
        if line.startswith(b"#"):
            if is_new:
                heads[name].append(line)
        else:
            samples[name].append(_labelled(line, label) if label else line)


def _labelled(line: bytes, label: bytes) -> bytes:
    """``name{a="b"} 1`` or ``name 1`` with one label more, the first."""
    brace, space = line.find(b"{"), line.find(b" ")
    if 0 <= brace < space or space < 0 <= brace:
        rest = line[brace + 1 :]
        return line[: brace + 1] + label + (b"" if rest.startswith(b"}") else b",") + rest
    return line[:space] + b"{" + label + b"}" + line[space:]


def _escaped(text: str) -> bytes:
    value = text.encode()
    for raw, told in _ESCAPES:
        value = value.replace(raw, told)
    return value

"""manifest.json of a folder of golden models: what tests read of each."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

Entry = dict[str, object]


def file_entries(folder: Path) -> dict[str, dict[str, object]]:
    """Size and hash of every file of a golden folder, by name."""
    return {
        file.name: {
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in sorted(folder.iterdir())
    }


def read(golden: Path) -> list[Entry]:
    """The entries; none where there is no manifest yet."""
    path = golden / "manifest.json"
    if not path.is_file():
        return []
    entries: list[Entry] = json.loads(path.read_text())
    return entries


def put(golden: Path, entry: Entry) -> None:
    """Write ``entry`` in the place of the one of its name, or at the end; others stay."""
    entries = read(golden)
    names = [e["name"] for e in entries]
    if entry["name"] in names:
        entries[names.index(entry["name"])] = entry
    else:
        entries.append(entry)
    path = golden / "manifest.json"
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(entries, indent=1))
    beside.replace(path)

"""Between what a file of the tier says of itself and what is known of it."""

from __future__ import annotations

from hashlib import blake2b

from slotmux.runtime.memory.disk.file_format import DamagedFileError, Header, Layout
from slotmux.runtime.memory.disk.files import Listed
from slotmux.runtime.memory.disk.index import Stored, StoredBlocks, StoredState
from slotmux.runtime.memory.disk.neighbours import taken

SUFFIX = ".kv"


def described(listed: Listed, layout: Layout, identity: str) -> Stored:
    """What a file holds. Raises DamagedFileError where it is not all there, or for another key."""
    header = layout.header
    if layout.n_bytes != listed.n_bytes:
        raise DamagedFileError("is cut off")
    if header.get("identity") != identity:
        raise DamagedFileError("belongs to another model")
    name, n_bytes, owner = listed.name, taken(listed.n_bytes), header["owner"]
    if header["kind"] == "blocks":
        digests = tuple(bytes.fromhex(digest) for digest in header["digests"])
        return StoredBlocks(name, n_bytes, owner, digests, listed.used_ns)
    floor, rest, first = (bytes.fromhex(header[key]) for key in ("floor", "rest", "first"))
    numbers = header["position"], header["n_pending"], header["state_kind"]
    return StoredState(name, n_bytes, owner, floor, rest, first, *numbers, listed.used_ns)


def name_of(stored: Stored) -> str:
    """Of what it holds, whoever writes it."""
    if isinstance(stored, StoredBlocks):
        return blake2b(b"".join(stored.digests), digest_size=20).hexdigest() + "-b" + SUFFIX
    named = stored.floor + stored.rest
    return blake2b(named, digest_size=20).hexdigest() + "-s" + SUFFIX


def header_of(stored: Stored, identity: str) -> Header:
    """What its file says of it."""
    header: Header = {"identity": identity, "owner": stored.owner}
    if isinstance(stored, StoredBlocks):
        return header | {"kind": "blocks", "digests": [d.hex() for d in stored.digests]}
    return header | {
        "kind": "state",
        "floor": stored.floor.hex(),
        "rest": stored.rest.hex(),
        "first": stored.first.hex(),
        "position": stored.position,
        "n_pending": stored.n_pending,
        "state_kind": stored.state_kind,
    }

"""A file is what was written, or it is refused."""

import numpy as np
import pytest

from slotmux.runtime.memory.disk.file_format import DamagedFileError, decode, encode
from slotmux.runtime.memory.disk.files import Files

SECTIONS = [("blocks", np.arange(60, dtype=np.uint8).reshape(3, 20)), ("row", np.ones(9, np.uint8))]


def whole():
    return np.concatenate(encode({"identity": "ab", "n": [1, 2]}, SECTIONS))


def read(data):
    layout = decode(data)
    if layout.n_bytes != len(data):
        raise DamagedFileError("is cut off")
    return layout.header, {name: layout.section(data, name).tolist() for name in layout.sections}


def test_what_is_written_is_read():
    header, sections = read(whole())
    assert header == {"identity": "ab", "n": [1, 2]}
    assert sections == {"blocks": list(range(60)), "row": [1] * 9}


def test_any_change_of_any_byte_is_seen():
    data = whole()
    for at in range(len(data)):
        for bits in (1, 0x80, 0xFF):
            changed = data.copy()
            changed[at] ^= bits
            with pytest.raises(DamagedFileError):
                read(changed)


def test_any_cut_is_seen():
    data = whole()
    for n in range(len(data)):
        with pytest.raises(DamagedFileError):
            read(data[:n])


def test_a_missing_section_is_told():
    with pytest.raises(DamagedFileError, match="lacks its tail"):
        decode(whole()).section(whole(), "tail")


def test_only_files_are_read_and_no_link_is_followed(tmp_path):
    files = Files()
    files.write(tmp_path / "a", [whole()])
    assert (tmp_path / "a").stat().st_mode & 0o077 == 0
    assert np.array_equal(files.read(tmp_path / "a"), whole())
    assert np.array_equal(files.read(tmp_path / "a", 5), whole()[:5])
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for name in ("b", ".", "c"):
        with pytest.raises(OSError, match=r"symbolic|no file|No such|directory"):
            files.read(tmp_path / name)
    assert [each.name for each in files.list(tmp_path)] == ["a"]

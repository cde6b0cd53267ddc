"""Models split over several files open as one, from any part's path, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGUFValueType

from slotmux.runtime.gguf import ModelFileError, open_gguf, parse_split_name, split_name
from tests.runtime.gguf.writer import ARCHITECTURE, File, Tensor, pair


def part(no: int, n_parts: int, names: list[str], n_tensors: int | None = None) -> bytes:
    """Part ``no``: one 8-float tensor a name, each filled with the part's number."""
    pairs = [
        pair("split.no", GGUFValueType.UINT16, no),
        pair("split.count", GGUFValueType.UINT16, n_parts),
    ]
    if n_tensors is not None:
        pairs.append(pair("split.tensors.count", GGUFValueType.INT32, n_tensors))
    if no == 0:
        pairs.insert(0, ARCHITECTURE)
    tensors = [Tensor(name, offset=32 * i) for i, name in enumerate(names)]
    return File(pairs=pairs, tensors=tensors, data=bytes([no] * 32 * len(names))).pack()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for no, names in enumerate(([], ["a", "b"], ["c"])):
        (tmp_path / split_name("m", no, 3)).write_bytes(part(no, 3, names, 3))
    return tmp_path


@pytest.mark.parametrize("no", [0, 1, 2])
def test_any_part_opens_the_whole(no: int, folder: Path) -> None:
    model = open_gguf(folder / split_name("m", no, 3))
    assert model.paths == tuple(folder / split_name("m", no, 3) for no in range(3))
    assert model.n_bytes == sum(path.stat().st_size for path in model.paths)
    assert model.architecture == "llama"
    found = {name: tensor.data.tobytes() for name, tensor in model.tensors.items()}
    assert found == {"a": bytes([1] * 32), "b": bytes([1] * 32), "c": bytes([2] * 32)}


def test_parts_may_be_symlinks_into_a_cache(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for no in range(3):
        name = split_name("m", no, 3)
        (folder / name).rename(folder / f"blob{no}")
        (snapshot / name).symlink_to(folder / f"blob{no}")
    assert len(open_gguf(snapshot / split_name("m", 0, 3)).tensors) == 3


@pytest.mark.parametrize("no", [0, 2])
def test_a_whole_file_under_a_parts_name(no: int, tmp_path: Path) -> None:
    path = tmp_path / split_name("x", no, 3)
    path.write_bytes(File(tensors=[Tensor()], data=bytes(32)).pack())
    model = open_gguf(path)
    assert model.paths == (path,)
    assert list(model.tensors) == ["t"]


def test_single_part_named_as_a_split(tmp_path: Path) -> None:
    path = tmp_path / split_name("m", 0, 1)
    path.write_bytes(File(tensors=[Tensor()], data=bytes(32)).pack())
    assert list(open_gguf(path).tensors) == ["t"]


def test_names() -> None:
    assert split_name("m", 0, 24) == "m-00001-of-00024.gguf"
    assert parse_split_name("m-00001-of-00024.gguf") == ("m", 0, 24)
    assert parse_split_name("m-1-of-24.gguf") is None
    assert parse_split_name("m.gguf") is None


@pytest.mark.parametrize(
    ("no", "data", "field"),
    [
        (1, None, "file"),
        (2, None, "file"),
        (1, b"GGUF", "version"),
        (1, part(1, 2, ["a", "b"], 3), "split.count"),
        (1, part(2, 3, ["a", "b"], 3), "split.no"),
        (0, part(1, 3, [], 3), "split.no"),
        (0, part(0, 3, [], 4), "split.tensors.count"),
        (0, part(0, 3, [], 0), "split.tensors.count"),
        (2, part(2, 3, ["a"], 3), "tensors[a]"),
        (2, File(tensors=[Tensor()], data=bytes(32)).pack(), "split.count"),
        (2, part(2, 3, ["c"], 3)[:-1], "tensors[c].offset"),
    ],
)
def test_a_bad_part_is_named(no: int, data: bytes | None, field: str, folder: Path) -> None:
    path = folder / split_name("m", no, 3)
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        open_gguf(folder / split_name("m", 0, 3))
    assert caught.value.field == field
    # A wrong total is found in the first part, everything else in the part that is wrong.
    assert caught.value.path == path


@pytest.mark.parametrize("name", ["m-00000-of-00003.gguf", "m-00004-of-00003.gguf",
                                  "m-00001-of-00000.gguf", "m-00001-of-99999.gguf"])  # fmt: skip
def test_impossible_numbers(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(part(0, 3, []))
    with pytest.raises(ModelFileError, match="the name asks for"):
        open_gguf(tmp_path / name)


def test_a_renamed_part_says_what_is_wrong(folder: Path) -> None:
    (folder / split_name("m", 1, 3)).rename(folder / "other.gguf")
    with pytest.raises(ModelFileError, match="one of 3 parts") as caught:
        open_gguf(folder / "other.gguf")
    assert "model-00002-of-00003.gguf" in str(caught.value)

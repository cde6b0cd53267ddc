"""Models on this machine: what they are called, what is deleted with them, what a name means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slotmux.server.files.download import ModelSourceError
from slotmux.server.files.installed import installed, remove
from slotmux.server.files.names import pullable, spec_of


def put(path: Path, size: int = 3, at: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (at, at))
    return path


class Cache:
    """The hub's cache as huggingface_hub lays it out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, repo: str, commit: str, name: str, blob: str, *, size: int = 3) -> Path:
        root = self.folder / f"models--{repo.replace('/', '--')}"
        target = root / "blobs" / blob
        if not target.exists():
            put(target, size)
        link = root / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(target, link.parent))
        return link


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "hub")


def names(cache: Cache, *folders: Path) -> list[str]:
    return sorted(model.name for model in installed(folders, cache.folder))


def test_names_choose_their_own_file(cache: Cache, tmp_path: Path) -> None:
    put(tmp_path / "models" / "mine.gguf", 7)
    put(tmp_path / "models" / "big-00001-of-00002.gguf", 5)
    put(tmp_path / "models" / "big-00002-of-00002.gguf", 6)
    put(tmp_path / "models" / "mmproj-mine.gguf")
    put(tmp_path / "models" / "notes.txt")
    put(tmp_path / "models" / "inside" / "any-Q8_0.gguf")
    put(tmp_path / "models" / "nothing" / "notes.txt")
    cache.add("u/r", "c1", "r-Q4_K_M.gguf", "b1")
    cache.add("u/r", "c1", "r-Q4_K_S.gguf", "b2")
    cache.add("u/r", "c1", "odd.gguf", "b3")
    cache.add("u/r", "c1", "BF16/r-BF16-00001-of-00002.gguf", "b4", size=4)
    cache.add("u/r", "c1", "BF16/r-BF16-00002-of-00002.gguf", "b5", size=5)
    cache.add("u/half", "c1", "h-Q8_0-00001-of-00002.gguf", "b6")
    models = {m.name: m for m in installed([tmp_path / "models"], cache.folder)}
    assert sorted(models) == [
        "big", "hf:u/r:BF16", "hf:u/r:Q4_K_M", "hf:u/r:Q4_K_S", "hf:u/r:odd", "inside", "mine",
    ]  # fmt: skip
    assert models["big"].n_bytes == 11
    assert models["hf:u/r:BF16"].n_bytes == 9
    assert models["hf:u/r:Q4_K_M"].paths[0].name == "r-Q4_K_M.gguf"


def test_the_youngest_stands_first_and_a_name_is_told_once(cache: Cache, tmp_path: Path) -> None:
    put(tmp_path / "a" / "old.gguf", at=1000)
    put(tmp_path / "a" / "new.gguf", at=3000)
    put(tmp_path / "b" / "new.gguf", 9, at=5000)
    put(tmp_path / "b" / "mid.gguf", at=2000)
    folders = [tmp_path / "a", tmp_path / "b", tmp_path / "none"]
    models = installed(folders, cache.folder)
    assert [(m.name, m.n_bytes) for m in models] == [("new", 3), ("mid", 3), ("old", 3)]
    assert models[0].modified == 3000


def test_the_newest_revision_counts_and_all_are_deleted(cache: Cache) -> None:
    old = cache.add("u/r", "c1", "r[1]-Q4_0.gguf", "b1", size=1)
    os.utime(old.parent, (1000, 1000))
    cache.add("u/r", "c2", "r[1]-Q4_0.gguf", "b2", size=2)
    cache.add("u/r", "c2", "r-Q8_0.gguf", "b3")
    cache.add("u/r", "c2", "README.md", "b4")
    model = next(m for m in installed([], cache.folder) if m.name == "hf:u/r:Q4_0")
    assert model.n_bytes == 2
    partial = put(cache.folder / "models--u--r" / "blobs" / "b9.incomplete")
    remove(model)
    assert names(cache) == ["hf:u/r:Q8_0"]
    left = {path.name for path in (cache.folder / "models--u--r" / "blobs").iterdir()}
    assert left == {"b3", "b4", partial.name}
    assert not old.parent.exists()


def test_what_two_revisions_share_stays_until_both_go(cache: Cache) -> None:
    cache.add("u/r", "c1", "a-Q4_0.gguf", "b1")
    cache.add("u/r", "c2", "renamed-Q4_1.gguf", "b1")
    model = next(m for m in installed([], cache.folder) if m.name == "hf:u/r:Q4_0")
    remove(model)
    [left] = installed([], cache.folder)
    assert left.name == "hf:u/r:Q4_1"
    assert left.n_bytes == 3
    remove(left)
    assert not (cache.folder / "models--u--r").exists()


def test_a_model_of_a_folder_is_deleted_with_all_its_parts(cache: Cache, tmp_path: Path) -> None:
    for no in (1, 2):
        put(tmp_path / f"big-0000{no}-of-00002.gguf")
    put(tmp_path / "other.gguf")
    model = next(m for m in installed([tmp_path], cache.folder) if m.name == "big")
    remove(model)
    assert names(cache, tmp_path) == ["other"]


def test_what_a_name_means(tmp_path: Path) -> None:
    file = put(tmp_path / "models" / "Some-Model.Q4_0.gguf")
    folders = [tmp_path / "none", tmp_path / "models"]
    assert spec_of(None, folders) is None
    for unchanged in ("demo", "hf:u/r", "hf:u/r:Q4_0", "./nowhere.gguf", "u/r:Q4_0", str(file)):
        assert spec_of(unchanged, folders) == unchanged
    for name in ("Some-Model.Q4_0", "some-model.q4_0", "Some-Model.Q4_0.gguf"):
        assert spec_of(name, folders) == str(file)
    for address in ("hf.co/u/r:Q4_0", "https://huggingface.co/u/r:Q4_0/"):
        assert spec_of(address, folders) == "hf:u/r:Q4_0"
    for default in ("default", "SmolLM2-135M-Instruct.Q4_1"):
        assert spec_of(default, folders) is None
    assert spec_of(str(file.parent), folders) == str(file)
    assert pullable("u/r:Q4_0", folders) == "hf:u/r:Q4_0"
    assert pullable("some-model.q4_0", folders) == str(file)


def test_what_no_name_means(tmp_path: Path) -> None:
    with pytest.raises(ModelSourceError, match="no GGUF file: name one file"):
        spec_of(str(tmp_path), [])
    put(tmp_path / "a.gguf")
    put(tmp_path / "b.gguf")
    with pytest.raises(ModelSourceError, match=r"holds a, b: name one file"):
        spec_of(str(tmp_path), [])
    with pytest.raises(ModelSourceError, match=r"there is no model llama3\.2 here"):
        pullable("llama3.2", [])

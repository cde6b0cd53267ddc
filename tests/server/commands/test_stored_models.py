"""`slotmux pull`, `list` and `rm`, against a stand-in for the hub."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from slotmux.server.cli import app
from slotmux.server.files.download import ModelSourceError
from slotmux.server.loading.errors import CommandError
from tests.server.files.fake_hub import FakeHub, fake_hub


@pytest.fixture
def hub(
    tiny_model_path: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeHub]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("SLOTMUX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with fake_hub() as hub:
        monkeypatch.setenv("SLOTMUX_HF_ENDPOINT", hub.endpoint)
        data = tiny_model_path("llama").read_bytes()
        hub.repos["user/tiny"] = {"tiny-F32.gguf": data, "tiny-Q8_0.gguf": data + b"\0"}
        yield hub


def run(*args: str) -> Any:
    return CliRunner().invoke(app, args)


def listed(*args: str) -> dict[str, Any]:
    return {model["name"]: model for model in json.loads(run("list", "--json", *args).stdout)}


def test_pull_list_rm(hub: FakeHub) -> None:
    pulled = run("pull", "user/tiny:F32")
    assert pulled.exit_code == 0, pulled.output
    assert "hf:user/tiny:F32" in pulled.stderr
    path = Path(pulled.stdout.strip())
    assert path.stat().st_size == len(hub.repos["user/tiny"]["tiny-F32.gguf"])
    assert run("pull", "hf.co/user/tiny:F32").stdout.strip() == str(path)
    assert len(hub.gets()) == 1

    heading, row = run("list").stdout.splitlines()
    assert heading.split() == ["NAME", "SIZE", "MODIFIED"]
    assert row.split() == ["hf:user/tiny:F32", "868", "KB", "just", "now"]
    assert listed()["hf:user/tiny:F32"]["files"] == [str(path)]

    assert run("rm", "user/tiny:F32").stdout == "deleted hf:user/tiny:F32\n"
    assert listed() == {}
    assert not path.exists()


def test_a_pull_that_broke_off_goes_on(hub: FakeHub) -> None:
    hub.break_after = [1000] * 40  # more than it tries in a row would bring nothing
    hub.status = None
    first = run("pull", "user/tiny:F32")
    assert first.exit_code == 0, first.output
    begins = [int(seen.range[6:-1]) if seen.range else 0 for seen in hub.gets()]
    assert begins == sorted(begins)
    assert begins[-1] >= 40_000


def test_pull_into_a_folder_of_models(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "served"
    args = ("pull", "user/tiny:F32", "--models-dir", str(folder))
    assert run(*args).exit_code == 0
    link = folder / "tiny-F32.gguf"
    assert link.is_symlink()
    assert link.stat().st_size
    assert run(*args).exit_code == 0  # once more
    assert "tiny-F32" in listed("--models-dir", str(folder))
    link.unlink()
    link.write_bytes(b"mine")
    refused = run(*args)
    assert isinstance(refused.exception, CommandError)
    assert link.read_bytes() == b"mine"


def test_models_of_the_folder_here_are_listed_and_found(
    hub: FakeHub, tiny_model_path: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    os.link(tiny_model_path("llama"), tmp_path / "models" / "mine.gguf")
    assert set(listed()) == {"mine"}
    found = run("tokenize", "mine", "hello", "--json")
    assert found.exit_code == 0, found.output
    assert run("rm", "MINE.gguf").exit_code == 0
    assert listed() == {}
    assert tiny_model_path("llama").exists()


def test_nothing_is_deleted_unless_every_name_is_known(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.gguf").write_bytes(b"x")
    refused = run("rm", "a", "b")
    assert isinstance(refused.exception, CommandError)
    assert "there is no model b here" in str(refused.exception)
    assert set(listed()) == {"a"}


def test_ollamas_own_names_are_told_what_to_do(hub: FakeHub) -> None:
    refused = run("pull", "llama3.2")
    assert isinstance(refused.exception, ModelSourceError)
    assert "slotmux pull USER/REPO:QUANT" in str(refused.exception)


def test_nothing_there_is_an_empty_table(hub: FakeHub) -> None:
    assert run("list").stdout.split() == ["NAME", "SIZE", "MODIFIED"]

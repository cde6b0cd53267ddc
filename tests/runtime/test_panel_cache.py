"""The panel cache: the same weights as from the file, from a file of its own, whatever happens."""

from __future__ import annotations

import fcntl
import os
import random
import time
from dataclasses import replace

import numpy as np
import pytest

from slotmux.runtime.driver import logits_of
from slotmux.runtime.lowering import panel_cache
from slotmux.runtime.model import ModelConfig, load_model

TOKENS = [3, 1, 4, 1, 5, 9, 2, 6]


@pytest.fixture
def path(golden_dir):
    return golden_dir / "q-llama" / "model-Q4_K_M.gguf"


@pytest.fixture
def config(kernel_cache_dir, tmp_path):
    return ModelConfig(
        n_threads=2,
        n_ctx=64,
        n_outputs=8,
        kernel_cache=kernel_cache_dir,
        panel_cache=tmp_path / "p",
    )


def logits(path, config):
    model = load_model(path, config)
    try:
        return logits_of(model, TOKENS, 8)
    finally:
        model.close()


def test_panels_from_the_cache_give_the_same_logits(path, config, caplog, monkeypatch):
    expected = logits(path, replace(config, panel_cache=None))
    assert np.array_equal(logits(path, config), expected)
    (file,) = config.panel_cache.iterdir()
    written = file.stat().st_mtime_ns
    # What is in the file is what is used: nothing is repacked.
    monkeypatch.setattr("slotmux.runtime.lowering.weights.Program", None)
    assert np.array_equal(logits(path, config), expected)
    assert file.stat().st_mtime_ns == written
    assert not caplog.records


def damage(data: bytearray, how: str, rng: random.Random) -> bytes:
    """A file as disks and people make them."""
    at = rng.randrange(4096, len(data))
    if how == "a bit":
        data[at] ^= 1 << rng.randrange(8)
    elif how == "a page of zeros":
        page = data[at // 4096 * 4096 : at // 4096 * 4096 + 4096]
        assert any(page)
        data[at // 4096 * 4096 : at // 4096 * 4096 + 4096] = bytes(len(page))
    elif how == "cut":
        del data[at:]
    elif how == "cut in the header":
        del data[100:]
    elif how == "empty":
        data.clear()
    elif how == "a size":
        data[30] ^= 1
    elif how == "another format":
        data[:8] = b"slotmuxx"
    return bytes(data)


KINDS = (
    "a bit",
    "a page of zeros",
    "cut",
    "cut in the header",
    "empty",
    "a size",
    "another format",
)


@pytest.mark.parametrize("how", KINDS)
def test_what_is_damaged_is_repacked_and_written_anew(path, config, caplog, how):
    expected = logits(path, config)
    (file,) = config.panel_cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(bytearray(whole), how, random.Random(how)))
    assert np.array_equal(logits(path, config), expected)
    assert len(caplog.records) == 1
    assert str(file) in caplog.text
    assert file.read_bytes() == whole
    caplog.clear()
    assert np.array_equal(logits(path, config), expected)
    assert not caplog.records


def test_a_file_that_changes_under_the_server_changes_nothing(path, config):
    expected = logits(path, config)
    (file,) = config.panel_cache.iterdir()
    model = load_model(path, config)
    try:
        with file.open("r+b") as open_file:
            open_file.write(bytes(1 << 16))
            open_file.truncate(10)
        assert np.array_equal(logits_of(model, TOKENS, 8), expected)
    finally:
        model.close()


def test_older_versions_of_the_same_model_go(path, config, monkeypatch):
    logits(path, config)
    (old,) = config.panel_cache.iterdir()
    other = config.panel_cache / "another-model.panels"
    other.write_bytes(b"x")
    monkeypatch.setattr(panel_cache, "source_digest", lambda: "edited")
    logits(path, config)
    left = set(config.panel_cache.iterdir())
    assert old not in left
    assert other in left
    assert len(left) == 2


@pytest.mark.parametrize("are_there", [False, True])
@pytest.mark.parametrize("what", ["gone", "changed", "as it was"])
def test_panels_of_a_model_that_is_gone_or_changed_go(path, config, tmp_path, what, are_there):
    """When those of another are written, and when they are read."""
    model = tmp_path / "mine.gguf"
    model.write_bytes(path.read_bytes())
    if are_there:
        logits(path, config)
    logits(model, config)
    (of_mine,) = config.panel_cache.glob("mine-*")
    if what == "gone":
        model.unlink()
    elif what == "changed":
        os.utime(model, ns=(1, 1))
    logits(path, config)
    assert of_mine.exists() == (what == "as it was")
    assert len(list(config.panel_cache.iterdir())) == 1 + (what == "as it was")


def test_panels_that_nobody_reads_go(path, config, tmp_path):
    """However they end: those of older versions do not tell of which model they are."""
    config.panel_cache.mkdir(mode=0o700)
    old, new = config.panel_cache / "old.panels", config.panel_cache / "new.panels"
    for file, days in ((old, panel_cache.KEPT_DAYS + 1), (new, panel_cache.KEPT_DAYS - 1)):
        file.write_bytes(b"x" * 100)
        os.utime(file, (time.time() - days * 24 * 3600,) * 2)
    logits(path, config)
    assert not old.exists()
    assert new.exists()


def test_reading_notes_the_use(path, config):
    logits(path, config)
    (file,) = config.panel_cache.iterdir()
    written = file.stat().st_mtime_ns
    os.utime(file, ns=(1, written))
    logits(path, config)
    assert file.stat().st_atime_ns > 1
    assert file.stat().st_mtime_ns == written


def test_what_a_killed_writer_left_goes(path, config):
    config.panel_cache.mkdir(mode=0o700)
    left, held = config.panel_cache / "left.part", config.panel_cache / "held.part"
    left.write_bytes(b"x")
    held.write_bytes(b"x")
    with held.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        logits(path, config)
    assert not left.exists()
    assert held.exists()
    assert len(list(config.panel_cache.iterdir())) == 2


def test_a_full_disk_costs_the_cache_only(path, config, monkeypatch, caplog):
    expected = logits(path, replace(config, panel_cache=None))

    def no_space(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(panel_cache.os, "fsync", no_space)
    assert np.array_equal(logits(path, config), expected)
    assert "No space left" in caplog.text
    assert not list(config.panel_cache.iterdir())


def test_a_directory_that_others_can_write_is_not_used(path, config, caplog):
    config.panel_cache.mkdir()
    config.panel_cache.chmod(0o775)
    logits(path, config)
    assert not list(config.panel_cache.iterdir())
    assert "go-w" in caplog.text


def test_a_directory_that_others_can_read_is(path, config, caplog):
    config.panel_cache.mkdir()
    config.panel_cache.chmod(0o755)
    logits(path, config)
    assert len(list(config.panel_cache.iterdir())) == 1
    assert not caplog.records

"""The panel cache: the same weights as from the file, from a file of its own."""

from dataclasses import replace

import numpy as np
import pytest

from slotmux.runtime.driver import logits_of
from slotmux.runtime.gguf import ModelFileError
from slotmux.runtime.model import ModelConfig, load_model


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
        return logits_of(model, [3, 1, 4, 1, 5, 9, 2, 6], 8)
    finally:
        model.close()


def test_panels_from_the_cache_give_the_same_logits(path, config, caplog):
    expected = logits(path, replace(config, panel_cache=None))
    assert np.array_equal(logits(path, config), expected)
    (file,) = config.panel_cache.iterdir()
    written = file.stat().st_mtime_ns
    assert np.array_equal(logits(path, config), expected)
    assert file.stat().st_mtime_ns == written
    assert not caplog.records


def test_the_cached_panels_are_what_is_used(path, config):
    expected = logits(path, config)
    (file,) = config.panel_cache.iterdir()
    data = bytearray(file.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    file.write_bytes(data)
    assert not np.array_equal(logits(path, config), expected)


def test_a_cut_file_is_refused_by_name(path, config):
    logits(path, config)
    (file,) = config.panel_cache.iterdir()
    file.write_bytes(file.read_bytes()[:8192])
    with pytest.raises(ModelFileError, match="panel cache"):
        load_model(path, config)


def test_a_directory_that_others_can_read_is_not_written(path, config, caplog):
    config.panel_cache.mkdir(mode=0o755)
    logits(path, config)
    assert not list(config.panel_cache.iterdir())
    assert "0700" in caplog.text

"""What the programs that measure share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.measuring.tokenizer import write_tokenizer


@pytest.fixture(scope="session")
def tokenizer(small_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tokenizer of Qwen2.5-Coder."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(small_path, folder)
    return folder

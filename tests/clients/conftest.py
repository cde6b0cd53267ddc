"""Servers that the clients talk to, started when the first test asks for one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.serving import ROOT, serving


@pytest.fixture(scope="session")
def demo() -> Iterator[str]:
    """The demo model: for what does not depend on what the model knows."""
    with serving("demo", "--alias", "demo") as url:
        yield url


@pytest.fixture(scope="session")
def small_path() -> Path:
    """The file of Qwen2.5-Coder 0.5B Instruct."""
    return _model("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf")


@pytest.fixture(scope="session")
def small(small_path: Path) -> Iterator[str]:
    """Qwen2.5-Coder 0.5B Instruct: it follows instructions, and knows tools."""
    with serving(str(small_path), "--alias", "coder") as url:
        yield url


@pytest.fixture(scope="session")
def coder_path() -> Path:
    """The file of Qwen2.5-Coder 1.5B Instruct."""
    return _model("qwen2.5-coder-1.5b-instruct-q4_k_m.gguf")


@pytest.fixture(scope="session")
def coder(coder_path: Path) -> Iterator[str]:
    """Qwen2.5-Coder 1.5B Instruct: the smallest that calls tools of its own accord."""
    with serving(str(coder_path), "--alias", "coder,coder-too") as url:
        yield url


def _model(name: str) -> Path:
    folder = Path(os.environ.get("SLOTMUX_TEST_MODELS", ROOT / "models"))
    path = folder / name
    if not path.is_file():
        pytest.skip(f"{path} is not there; SLOTMUX_TEST_MODELS names another folder")
    return path

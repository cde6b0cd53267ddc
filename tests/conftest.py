"""What every test may use: golden files, real models, compiled kernels, poisoned memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"

# A developer's own SLOTMUX_* choices must not change what is tested. Freed memory is filled with
# NaN in the whole suite, so that a stale read cannot go unnoticed.
for _name in [name for name in os.environ if name.startswith("SLOTMUX_")]:
    if _name not in ("SLOTMUX_TEST_MODELS", "SLOTMUX_TEST_VOCABULARIES"):
        del os.environ[_name]
os.environ["SLOTMUX_POISON_FREED"] = "1"


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Tiny models with outside references, one folder each."""
    return GOLDEN


@pytest.fixture(scope="session")
def tiny_model_path(golden_dir: Path) -> Callable[..., Path]:
    """tiny_model_path("llama"), tiny_model_path("llama", "model-F16.gguf"): a tiny model's file."""

    def path(name: str, file: str = "model.gguf") -> Path:
        found = golden_dir / name / file
        assert found.is_file(), f"there is no golden model {name}/{file}"
        return found

    return path


@pytest.fixture(scope="session")
def kernel_cache_dir() -> Path:
    """Where tests keep compiled kernels: one place for the whole run, kept for the next one."""
    path = ROOT / ".cache" / "kernels"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """SmolLM2-135M-Instruct, Q4_1; skips where it was not downloaded."""
    return _real_model("SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="session")
def gemma3_path() -> Path:
    """Gemma-3-270M, Q4_K_M; skips where it was not downloaded."""
    return _real_model("gemma-3-270m-q4_k_m.gguf")


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    """all-MiniLM-L6-v2, a folder with its checkpoint; skips where it was not downloaded."""
    return _real_model("all-MiniLM-L6-v2")


def _real_model(name: str) -> Path:
    folder = Path(os.environ.get("SLOTMUX_TEST_MODELS", ROOT / "models"))
    path = folder / name
    if not path.exists():
        pytest.skip(f"{path} is not there; SLOTMUX_TEST_MODELS names another folder")
    return path

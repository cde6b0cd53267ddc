"""`slotmux inspect` of files with faults: one line and exit code 2, or warnings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from slotmux.runtime.gguf import open_gguf
from tests.runtime.models.files.rewrite import rewrite
from tests.runtime.models.isolation import golden


def inspect(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "slotmux.server.cli", "inspect", str(path), "--json"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_norm_of_integers_is_one_line(tmp_path: Path) -> None:
    tensor = "blk.0.attn_norm.weight"
    data = {t.name: np.array(t.data) for t in GGUFReader(golden("llama").path).tensors}[tensor]
    new = {tensor: data.astype(np.int32)}
    path = rewrite(golden("llama").path, tmp_path / "bad.gguf", tensors=new)
    done = inspect(path)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert f"bad.gguf: {tensor}" in line
    assert "I32" in line


@pytest.mark.parametrize("fault", ["template", "eos", "drafts"])
def test_what_is_wrong_and_served_all_the_same(fault: str, tmp_path: Path) -> None:
    source = golden("qwen35").path
    name = "blk.5.nextn.enorm.weight"
    keys = {
        "template": {"tokenizer.chat_template": "{% if %}"},
        "eos": {"tokenizer.ggml.eos_token_id": 99999},
    }
    for key in keys.get(fault, {}):
        assert key in open_gguf(source).metadata
    drop: dict[str, np.ndarray | None] = {name: None} if fault == "drafts" else {}
    path = rewrite(source, tmp_path / "odd.gguf", keys=keys.get(fault), tensors=drop)
    done = inspect(path)
    assert done.returncode == 0, done.stderr
    (warning,) = json.loads(done.stdout)["warnings"]
    assert warning.startswith("odd.gguf: ")

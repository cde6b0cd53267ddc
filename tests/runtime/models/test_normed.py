"""What texts' vectors are made of, of every family that generates: the rows before its head.

Logits are held against other implementations; they are the output matrix times these rows, but for
a factor and a bound that the file says, so the rows are theirs, too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf.quants import dequantize

from slotmux.runtime.driver import Driver
from slotmux.runtime.gguf import GGUFFile, open_gguf
from tests.architectures import ALL
from tests.runtime.models.isolation import F32, golden, loaded


def output_of(file: GGUFFile, h: F32) -> F32:
    """The output matrix times rows, and its bias."""
    tensors = file.tensors
    matrix = tensors.get("output.weight", tensors["token_embd.weight"])
    out: F32 = h @ dequantize(matrix.data, matrix.type).reshape(-1, h.shape[1]).T
    bias = tensors.get("output.bias")
    return out if bias is None else out + dequantize(bias.data, bias.type)


def unbounded(file: GGUFFile, logits: F32) -> F32:
    """Logits before they were bounded, where the file says that they are."""
    cap = file.metadata.get_f32(f"{file.architecture}.final_logit_softcapping", 0.0)
    return np.arctanh(logits.astype(np.float64) / cap) * cap if cap else logits


@pytest.mark.parametrize("name", ALL)
def test_logits_are_the_output_matrix_times_the_normed_rows(
    name: str, kernel_cache_dir: Path
) -> None:
    reference = golden(name)
    file, prompt = open_gguf(reference.path), reference.prompts[1]
    with loaded(reference.path, kernel_cache_dir) as model:
        driver = Driver(model)
        driver.open(0)
        logits = unbounded(file, driver.feed([(0, prompt)]))
        rows = model.vectors(np.arange(len(prompt), dtype=np.int32))
    made = output_of(file, rows)
    factor = float((logits * made).sum() / (made * made).sum())
    assert np.abs(logits - factor * made).max() <= 2e-4 * np.abs(logits).max()

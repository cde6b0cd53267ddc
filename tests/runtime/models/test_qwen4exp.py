"""qwen4exp beyond its golden model: quantised, blocks larger than a block of cells, ends of text
within n-grams; and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slotmux.kernels.compiler import KernelCache
from slotmux.kernels.cpu import detect_cpu
from slotmux.runtime.gguf import ModelFileError, open_gguf
from slotmux.runtime.lowered import Lowered, ModelConfig
from tests.bench.synth.blocks import Experts, Heads, Ssm
from tests.bench.synth.gguf_file import write
from tests.bench.synth.plan import FilePlan, Value
from tests.bench.synth.qwen4exp import HEAD_ROWS, Index, Streams, qwen4exp
from tests.runtime.models.isolation import assert_isolated

N_VOCAB, EOS = 512, 257


def plan(budget: int = 48, ratio: int = 16) -> FilePlan:
    """A small file with every kind of layer."""
    return qwen4exp(
        512, 4, Heads(4, 2, 128), Ssm(128, 32, 4, 2), Experts(4, 2, 64, n_shared_ff=64),
        Streams(3, 32), Index(3, 64, budget, ratio), N_VOCAB,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("type_name", "ratio", "cells"), [("Q8_0", 16, "f16"), ("Q4_0", 48, "i16")]
)
def test_quantised_alone_or_in_company(
    type_name: str, ratio: int, cells: str, kernel_cache_dir: Path, tmp_path: Path
) -> None:
    """Of prompts that are longer than the budget, with ends of text in them."""
    path = tmp_path / "model.gguf"
    write(plan(ratio=ratio), "qwen4exp", path, type_name)
    rng = np.random.default_rng(ratio)
    prompts = [rng.integers(0, N_VOCAB, n) for n in (150, 37, 7)]
    for prompt in prompts:
        prompt[::6] = EOS
    types = {"cache_type_k": cells, "cache_type_v": cells}
    assert_isolated(path, kernel_cache_dir, [prompt.tolist() for prompt in prompts], **types)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention.compress_ratios", [0, 0, 0, 32]),  # no divisor of 48
        ("attention.compress_ratios", [0, 0, 0, 1]),
        ("attention.indexer.key_length", 16),  # fewer dimensions than are rotated
        ("hyper_connection.count", 1),
        ("ple.layers", [0, 1]),
        ("ple.layers", [4]),
        ("ple.conv_kernel", 7),  # more taps, three tokens apart, than a convolution has
        ("ple.head_vocab_sizes", [HEAD_ROWS] * 15 + [HEAD_ROWS + 1]),
        ("ple.head_vocab_sizes", [HEAD_ROWS] * 15 + [0]),
        ("ple.head_offsets", [-1] * 16),
        ("ple.layer_multipliers", [3, 5]),
        ("ple.eos_token_id", N_VOCAB),
    ],
)
def test_what_no_such_model_has_is_refused(key: str, value: Value, tmp_path: Path) -> None:
    made, path = plan(), tmp_path / "model.gguf"
    made.key(key, value)
    write(made, "qwen4exp", path, "Q8_0")
    with pytest.raises(ModelFileError) as refused:
        Lowered(open_gguf(path), ModelConfig(n_ctx=64), KernelCache(detect_cpu()))
    assert refused.value.field == f"qwen4exp.{key}"

"""Which models have gate, up and GLU in one op for many rows, and that their answers stay."""

from __future__ import annotations

import pytest

from slotmux.kernels.compiler import KernelCache
from slotmux.kernels.cpu import detect_cpu
from slotmux.kernels.tile import can_pair
from slotmux.runtime.driver import pieces, run_pattern, whole
from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.lowered import Lowered, ModelConfig
from tests.runtime.models.isolation import GOLDEN, assert_same, loaded

HAS_PAIRS = can_pair(detect_cpu("auto").isa)


def kernels_of(file: str, isa: str = "auto", n_ubatch: int = 512) -> list[str]:
    """Names of a program's ops in their order."""
    config = ModelConfig(n_ctx=64, n_ubatch=n_ubatch, isa=isa)
    lowered = Lowered(open_gguf(GOLDEN / file), config, KernelCache(detect_cpu(isa)))
    return [op.kernel for op in lowered.builder.ops]


@pytest.mark.skipif(not HAS_PAIRS, reason="this CPU multiplies one panel at a time")
def test_the_op_stands_between_the_glu_and_the_product_that_reads_it():
    ops = kernels_of("q-llama/model-Q4_0.gguf")
    at = [i for i, name in enumerate(ops) if name.startswith("gated.")]
    assert len(at) == sum(name == "glu.silu" for name in ops) > 0
    for i in at:
        assert ops[i - 2 : i + 2] == [
            "linear.q4_0", "glu.silu", "gated.q4_0.silu", "linear.q4_0",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "isa", "n_ubatch"),
    [
        ("llama/model.gguf", "auto", 512),  # float rows
        ("q-llama/model-Q4_0.gguf", "portable", 512),
        ("q-llama/model-Q4_0.gguf", "auto", 56),  # never many rows
    ],
)
def test_models_without_it(file, isa, n_ubatch):
    assert not [name for name in kernels_of(file, isa, n_ubatch) if name.startswith("gated.")]


@pytest.mark.parametrize("kind", ["Q4_0", "Q5_K_M"])
def test_few_and_many_rows_give_the_same_bits(kind, kernel_cache_dir):
    prompt = [(7 * i) % 61 for i in range(150)]
    with loaded(GOLDEN / f"q-llama/model-{kind}.gguf", kernel_cache_dir) as model:
        many = run_pattern(model, [prompt], whole([len(prompt)]), poison=True)
        for n in (1, 33, 63, 64, 70):
            got = run_pattern(model, [prompt], pieces([len(prompt)], n), poison=True)
            assert_same(f"pieces of {n}", got, many)

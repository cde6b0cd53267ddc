"""The memory budget: what is counted, what is chosen when nothing was said, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slotmux.runtime.errors import SlotmuxError
from slotmux.runtime.gguf import GGUFFile, open_gguf
from slotmux.runtime.model import ModelConfig, load_model
from slotmux.server.commands.memory import (
    BASE_BYTES,
    Checkpoints,
    check_fits,
    memory_limit,
    memory_needed,
)
from slotmux.server.commands.options import CommandError
from slotmux.server.commands.weights import bytes_by_type, bytes_per_forward


@pytest.fixture
def llama(tiny_model_path: Callable[..., Path]) -> GGUFFile:
    return open_gguf(tiny_model_path("llama"))


def test_nothing_said_means_the_trained_context(llama: GGUFFile) -> None:
    n_ctx = llama.metadata.get_u32("llama.context_length")
    needed = memory_needed(llama, 4, 0, 0, "f16", "f16")
    assert (needed.n_ctx, needed.n_cells) == (n_ctx, min(4 * n_ctx, 32_768))
    many = memory_needed(llama, 256, 0, 0, "f16", "f16")
    assert many.n_cells == 32_768


def test_given_sizes_are_kept_or_refused(llama: GGUFFile) -> None:
    needed = memory_needed(llama, 4, 100, 0, "f16", "f16")
    assert (needed.n_ctx, needed.n_cells) == (100, 400)
    assert memory_needed(llama, 4, 100, 150, "f16", "f16").n_cells == 150
    with pytest.raises(CommandError, match="kv-size"):
        memory_needed(llama, 4, 100, 99, "f16", "f16")
    with pytest.raises(CommandError, match="the model was trained for"):
        memory_needed(llama, 4, 10**6, 0, "f16", "f16")
    with pytest.raises(CommandError, match="--cache-type-v"):
        memory_needed(llama, 4, 100, 0, "f16", "f8")


def test_types_of_cells_have_their_sizes(llama: GGUFFile) -> None:
    def kv(k: str, v: str) -> float:
        return memory_needed(llama, 1, 64, 0, k, v).kv_bytes

    assert kv("f32", "f32") == 2 * kv("f16", "f16") > 0
    assert kv("f16", "f32") == kv("f32", "f32") - kv("f32", "f16") + kv("f16", "f16")
    with pytest.raises(SlotmuxError, match="q8_0 needs heads"):
        kv("q8_0", "f16")


def test_too_little_memory_is_refused_with_a_size_that_fits(llama: GGUFFile) -> None:
    needed = memory_needed(llama, 4, 200, 0, "f16", "f16")
    check_fits(needed, needed.total_bytes)
    with pytest.raises(CommandError, match="--ctx-size 100 would fit"):
        check_fits(needed, needed.total_bytes - needed.kv_bytes // 2)
    with pytest.raises(CommandError, match="MiB") as error:
        check_fits(needed, BASE_BYTES)
    assert "would fit" not in str(error.value)


def test_what_is_predicted_is_what_is_taken(
    tiny_model_path: Callable[..., Path], kernel_cache_dir: Path
) -> None:
    path = tiny_model_path("qwen35")
    checkpoints = Checkpoints(3, 1 << 30)
    needed = memory_needed(open_gguf(path), 2, 128, 0, "f16", "f32", checkpoints=checkpoints)
    config = ModelConfig(
        n_threads=1, n_ctx=needed.n_cells, n_slots=2, cache_type_v="f32",
        n_checkpoints=needed.n_checkpoints, kernel_cache=kernel_cache_dir,
    )  # fmt: skip
    model = load_model(path, config)
    try:
        taken = model.memory_bytes
    finally:
        model.close()
    assert taken["weights"] == needed.weights_bytes
    assert taken["kv"] == needed.kv_bytes
    assert taken["state"] == needed.state_bytes == 8 * needed.sizes.row
    assert taken["buffers"] == pytest.approx(needed.sizes.buffers, rel=0.05)


def test_checkpoints_are_bounded_by_number_and_by_bytes() -> None:
    assert Checkpoints(8, 1000).of(4, 10) == 32
    assert Checkpoints(8, 1000).of(4, 400) == 2
    assert Checkpoints(0, 1000).of(4, 10) == 0
    assert Checkpoints().of(4, 0) == 0


def test_the_limit_is_at_most_the_machine() -> None:
    meminfo = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    assert 0 < memory_limit() <= int(meminfo["MemTotal"].split()[0]) * 1024


def test_an_embedding_table_counts_only_as_output_matrix(llama: GGUFFile) -> None:
    total = sum(tensor.n_bytes for tensor in llama.tensors.values())
    assert sum(n_bytes for _, n_bytes in bytes_by_type(llama).values()) == total
    table = llama.tensors["token_embd.weight"].n_bytes
    is_tied = "output.weight" not in llama.tensors
    assert bytes_per_forward(llama) == (total if is_tied else total - table)


def test_a_prediction_block_is_not_read(golden_dir: Path) -> None:
    file = open_gguf(golden_dir / "qwen35" / "model.gguf")
    block = sum(t.n_bytes for name, t in file.tensors.items() if name.startswith("blk.5."))
    total = sum(t.n_bytes for t in file.tensors.values())
    assert block > 0
    table = file.tensors["token_embd.weight"].n_bytes
    assert bytes_per_forward(file) == total - block - table


def test_more_tokens_read_more_experts(golden_dir: Path) -> None:
    file = open_gguf(golden_dir / "qwen3moe" / "model.gguf")
    one, eight, many = (bytes_per_forward(file, n) for n in (1, 8, 1 << 16))
    assert one < eight < many
    experts = sum(t.n_bytes for name, t in file.tensors.items() if "_exps." in name)
    n_experts = file.metadata.get_u32("qwen3moe.expert_count")
    n_used = file.metadata.get_u32("qwen3moe.expert_used_count")
    assert many - one == pytest.approx(experts * (1 - n_used / n_experts), rel=1e-3)

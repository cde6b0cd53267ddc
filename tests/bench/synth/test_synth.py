"""Synthetic files have the keys and tensors that the golden files of their families have."""

from __future__ import annotations

import re
from pathlib import Path

import gguf
import numpy as np
import pytest

from slotmux.runtime.gguf import GGUFFile, open_gguf
from tests.bench.cases import SpeedTest
from tests.bench.synth.blocks import Experts, Heads
from tests.bench.synth.families import dense, qwen3moe
from tests.bench.synth.gguf_file import SHAPES, ensure, write
from tests.bench.work import work_of

# Golden models whose layers are put together as those of the shape are.
TWINS = {
    "llama-1b": "llama",
    "qwen3-0.6b": "qwen3",
    "qwen35-0.8b": "qwen35",
    "qwen35-2b": "qwen35",
    "qwen3moe-like": "qwen3moe",
    "qwen35moe-like": "qwen35moe",
    "qwen4exp-like": "qwen4exp",
    "lfm2-350m": "lfm2",
    "lfm2moe-like": "lfm2moe",
    "mamba-130m": "mamba",
    "mamba2-130m": "mamba2",
    "granite-4-h-350m": "granitehybrid",
    "falcon-h1-0.5b": "falcon-h1",
    "nemotron-h-like": "nemotron_h",
    "jamba-like": "jamba",
    "glm47-flash-like": "glm4moelite",
    "ling3-tiny-like": "bailingmoe3",
    "rwkv6-0.1b": "rwkv6",
    "rwkv7-0.1b": "rwkv7",
}
# What the golden files have for the sake of their tests, or the published models have not.
OPTIONAL_KEYS = re.compile(
    r"ssm\.dt_b_c_rms|rope\.scaling\.(type|factor|original_context_length)|rope\.dimension_count|vocab_size"
    r"|attention\.(recurrent_layers|key_length|value_length)|attention\.sliding.*"
)
OPTIONAL_TENSORS = {"output.weight", "rope_freqs.weight"}


def test_every_shape_has_a_twin() -> None:
    assert set(TWINS) == set(SHAPES)


def roles(names: list[str]) -> set[str]:
    return {re.sub(r"^blk\.\d+\.", "blk.", name) for name in names}


def ranks(shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    return {re.sub(r"^blk\.\d+\.", "blk.", name): len(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_a_shape_has_its_familys_tensors_and_keys(shape: str, golden_dir: Path) -> None:
    plan = SHAPES[shape]()
    golden: GGUFFile = open_gguf(golden_dir / TWINS[shape] / "model.gguf")
    ours = {tensor.name: tensor.shape for tensor in plan.tensors}
    theirs = {name: tensor.shape for name, tensor in golden.tensors.items()}
    assert roles(list(ours)) ^ roles(list(theirs)) <= OPTIONAL_TENSORS
    differing = {n for n, rank in ranks(ours).items() if ranks(theirs).get(n, rank) != rank}
    assert not differing, f"tensors of another rank: {differing}"
    prefix = golden.architecture + "."
    assert plan.arch == golden.architecture
    wanted = {key for key in golden.metadata if key.startswith(prefix)}
    unlike = {key.removeprefix(prefix) for key in wanted ^ set(plan.keys)}
    assert not {key for key in unlike if not OPTIONAL_KEYS.fullmatch(key)}


@pytest.mark.parametrize("type_name", ["F16", "Q8_0", "Q4_0", "Q4_1"])
def test_a_written_file_is_a_file_of_its_type(type_name: str, tmp_path: Path) -> None:
    plan = dense("llama", 64, 2, 96, Heads(4, 2, 16), 300)
    path = tmp_path / "tiny.gguf"
    write(plan, "tiny", path, type_name, seed=3)
    file = open_gguf(path)
    assert {name: t.shape[::-1] for name, t in file.tensors.items()} == {
        t.name: t.shape for t in plan.tensors
    }
    up = file.tensors["blk.0.ffn_up.weight"]
    assert up.type.name == type_name
    assert file.tensors["output_norm.weight"].type.name == "F32"
    values = gguf.quants.dequantize(up.data, up.type)
    assert np.isfinite(values).all()
    assert 0.5 < values.std() * 64**0.5 < 0.9
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.gguf"]


def test_the_same_seed_writes_the_same_file(tmp_path: Path) -> None:
    plan = dense("qwen3", 32, 1, 32, Heads(2, 1, 16), 300)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(plan, "tiny", tmp_path / name, "Q8_0", seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_types_of_the_quantiser_need_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="llama-quantize"):
        ensure("mamba-130m", "Q4_K_M", tmp_path)
    assert not list(tmp_path.iterdir())


def test_work_counts_what_a_step_reads(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write(dense("llama", 64, 2, 96, Heads(4, 2, 16), 300), "tiny", path, "F16")
    work = work_of(path)
    matrices = 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64)
    assert work.ops_per_token == 2 * matrices
    assert work.weight_bytes == 2 * (matrices + 300 * 64) + 4 * 64 * 5  # tied: all is read
    assert work.windows == ((128, 0), (128, 0))  # 2 heads of 16, K and V, 2 bytes
    test = SpeedTest("tg", 8, 2, 100)
    step = work.weight_bytes + 2 * 2 * 128 * 104
    assert work.bytes_per_second(test, 10.0) == pytest.approx(5 * step)


def test_work_counts_experts_by_their_chance(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    plan = qwen3moe(64, 1, Heads(4, 2, 16), Experts(8, 2, 32), 300)
    write(plan, "tiny", path, "F16")
    work = work_of(path)
    all_experts = 2 * 3 * 8 * 32 * 64
    base = work.weight_bytes
    assert work.expert_bytes == all_experts
    assert work.bytes_per_step(1, 0) - base == pytest.approx(all_experts / 4)
    assert work.bytes_per_step(2, 0) - base == pytest.approx(all_experts * 7 / 16)
    assert base < path.stat().st_size - all_experts - 2 * 300 * 64  # untied: no embedding


def test_work_counts_recurrent_state(golden_dir: Path) -> None:
    work = work_of(golden_dir / "mamba2" / "model.gguf")
    assert work.state_bytes == 4 * 3 * 128 * 16
    assert work.windows == ()
    assert work.bytes_per_step(4, 0) - work.bytes_per_step(1, 0) == 3 * 2 * work.state_bytes

"""The plan of a server: what is counted, what is chosen when nothing was said, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slotmux.runtime.engine.config import MTP
from slotmux.runtime.errors import SlotmuxError
from slotmux.runtime.gguf import GGUFFile, open_gguf
from slotmux.runtime.memory.prefix_tree import NODE_BYTES, STATE_BYTES
from slotmux.runtime.model import load_model
from slotmux.runtime.numa import chosen_nodes
from slotmux.server.commands.weights import bytes_by_type, bytes_per_forward
from slotmux.server.loading.available import Limit
from slotmux.server.loading.budget import BASE_BYTES
from slotmux.server.loading.errors import CommandError
from slotmux.server.loading.load import load
from slotmux.server.loading.plan import Plan, Sequences, make_plan
from slotmux.server.settings import SettingsError, load_settings


@pytest.fixture
def llama(tiny_model_path: Callable[..., Path]) -> GGUFFile:
    return open_gguf(tiny_model_path("llama"))


def _plan(file: GGUFFile, sequences: Sequences | None = None, **flags: Any) -> Plan:
    return make_plan(load_settings(**flags), file, sequences)


def test_nothing_said_means_the_trained_context(llama: GGUFFile) -> None:
    n_ctx = llama.metadata.get_u32("llama.context_length")
    plan = _plan(llama)
    assert (plan.engine.n_ctx, plan.model.n_ctx) == (n_ctx, min(4 * n_ctx, 32_768))
    assert _plan(llama, parallel=256).model.n_ctx == 32_768


def test_given_sizes_are_kept_or_refused(llama: GGUFFile) -> None:
    plan = _plan(llama, ctx_size=100)
    assert (plan.engine.n_ctx, plan.model.n_ctx, plan.budget.n_cells) == (100, 400, 400)
    assert _plan(llama, ctx_size=100, kv_size=150).model.n_ctx == 150
    with pytest.raises(CommandError, match="--kv-size 99"):
        _plan(llama, ctx_size=100, kv_size=99)
    with pytest.raises(CommandError, match="--ctx-size 1000000: the model was trained for"):
        _plan(llama, ctx_size=10**6)
    with pytest.raises(SettingsError, match="--cache-type-v"):
        _plan(llama, cache_type_v="f8")


def test_every_choice_of_the_operator_is_in_the_plan(llama: GGUFFile, tmp_path: Path) -> None:
    plan = _plan(
        llama, parallel=3, ctx_size=64, threads=2, batch_size=32, ubatch_size=64, isa="portable",
        cache_type_k="f32", cache_type_v="f16", pin_threads=True, panel_cache=True, numa="isolate",
        cache_dir=tmp_path, max_queue=5, queue_timeout=7.0, poison_freed=True,
        prompt_tokens_beside=9, max_step_ms=11.0, spec_type="ngram", spec_draft_n_max=2,
        mem_limit=12,
    )  # fmt: skip
    model, engine = plan.model, plan.engine
    assert (model.n_slots, model.n_ctx, model.n_threads, model.n_ubatch) == (3, 192, 2, 32)
    assert (model.isa, model.cache_type_k, model.cache_type_v) == ("portable", "f32", "f16")
    assert (model.pin_threads, model.max_drafts, model.use_mtp) == (True, 2, False)
    assert model.numa == f"isolate:{chosen_nodes('isolate')[0].id}"
    assert (model.kernel_cache, model.panel_cache) == (tmp_path / "kernels", tmp_path / "panels")
    assert (engine.n_slots, engine.n_ctx, engine.max_queue) == (3, 64, 5)
    assert (engine.queue_timeout_s, engine.poison_freed) == (7.0, True)
    assert (engine.n_prompt_beside, engine.max_step_s) == (9, 0.011)
    assert (plan.spec.types, plan.spec.n_max, plan.limit.n_bytes) == (("ngram",), 2, 12)


def test_the_block_of_the_model_drafts_where_it_has_one(
    tiny_model_path: Callable[..., Path],
) -> None:
    plan = _plan(open_gguf(tiny_model_path("qwen35")))
    assert (plan.spec.types, plan.model.use_mtp) == ((MTP,), True)
    assert plan.model.max_drafts == plan.spec.n_max > 0


def test_a_command_that_serves_nobody_has_room_for_its_sequences(llama: GGUFFile) -> None:
    plan = _plan(llama, Sequences(3, 17, n_outputs=5), spec_type="none")
    assert (plan.model.n_slots, plan.model.n_ctx, plan.model.n_outputs) == (3, 96, 5)
    with pytest.raises(CommandError, match="in one sequence: the model was trained for"):
        _plan(llama, Sequences(1, 10**6))


def test_types_of_cells_have_their_sizes(llama: GGUFFile) -> None:
    def kv(k: str, v: str) -> float:
        plan = _plan(llama, parallel=1, ctx_size=64, cache_type_k=k, cache_type_v=v)
        return plan.budget.kv_bytes

    assert kv("f32", "f32") == 2 * kv("f16", "f16") > 0
    assert kv("f16", "f32") == kv("f32", "f32") - kv("f32", "f16") + kv("f16", "f16")
    with pytest.raises(SlotmuxError, match="q8_0 needs heads"):
        kv("q8_0", "f16")


def _refusal(file: GGUFFile, n_bytes: int, **flags: Any) -> str:
    plan = _plan(file, mem_limit=n_bytes, **flags)
    with pytest.raises(CommandError) as error:
        plan.check()
    assert str(error.value).endswith(plan.remedy)
    return str(error.value)


def _total(file: GGUFFile, **flags: Any) -> int:
    return _plan(file, **flags).budget.total_bytes


def _named(refusal: str, flag: str) -> int:
    """The value that a refusal names."""
    return int(refusal.partition(f"{flag} ")[2].split()[0])


FLAGS = {"ctx_size": "--ctx-size", "kv_size": "--kv-size", "parallel": "--parallel"}


def test_too_little_memory_is_refused_with_what_would_fit(llama: GGUFFile) -> None:
    flags = {"ctx_size": 200, "prefix_cache_bytes": 0}
    whole = _total(llama, **flags)
    _plan(llama, mem_limit=whole, **flags).check()
    limit = whole - _plan(llama, **flags).budget.kv_bytes // 2
    refusal = _refusal(llama, limit, **flags)
    assert "the limit is" in refusal
    assert "(--mem-limit)" in refusal
    # A pool of fewer cells is a way for slots of any length, fewer slots for these.
    values = {field: _named(refusal, flag) for field, flag in FLAGS.items()}
    for field, value in values.items():
        assert _total(llama, **(flags | {field: value})) <= limit
        assert _total(llama, **(flags | {field: value + 1})) > limit
    assert _named(refusal, "--ctx-size") in range(100, 110)
    assert "would fit" not in _refusal(llama, BASE_BYTES)


def test_a_refusal_names_the_pool_where_the_pool_was_chosen(llama: GGUFFile) -> None:
    flags = {"ctx_size": 200, "kv_size": 2000, "prefix_cache_bytes": 0}
    limit = _total(llama, **flags) - 10**5
    refusal = _refusal(llama, limit, **flags)
    assert _total(llama, **(flags | {"kv_size": _named(refusal, "--kv-size")})) <= limit
    # Fewer or shorter requests would leave the pool as large as it is.
    assert "--ctx-size" not in refusal
    assert "--parallel" not in refusal


def test_states_are_had_by_fewer_slots(tiny_model_path: Callable[..., Path]) -> None:
    file = open_gguf(tiny_model_path("mamba"))
    flags = {"parallel": 64, "prefix_cache_bytes": 0}
    limit = _total(file, **flags) - 10 * _plan(file, **flags).budget.sizes.row
    refusal = _refusal(file, limit, **flags)
    assert refusal.endswith("; --parallel 54 would fit")
    assert "states of 64 slots" in refusal


def test_one_short_slot_where_nothing_less_helps(llama: GGUFFile) -> None:
    flags = {"ctx_size": 2048, "parallel": 2, "prefix_cache_bytes": 10**9}
    least = _total(llama, ctx_size=16, parallel=1, prefix_cache_bytes=0)
    refusal = _refusal(llama, least + 2000, **flags)
    assert "; with --prefix-cache-bytes 0, --parallel 1 --ctx-size " in refusal


def test_a_tier_on_disk_costs_what_is_on_its_way(llama: GGUFFile, tmp_path: Path) -> None:
    flags = {"ctx_size": 64, "prefix_cache_bytes": 0}
    limit = _total(llama, **flags)
    refusal = _refusal(llama, limit, prefix_cache_dir=tmp_path, **flags)
    assert "; no --prefix-cache-dir would fit" in refusal


def test_what_does_not_fit_is_not_loaded(llama: GGUFFile) -> None:
    plan = _plan(llama, ctx_size=200)
    limit = Limit(plan.budget.total_bytes - 1, 10 * 2**30)
    with pytest.raises(CommandError, match="what is available of 10240 MiB"):
        load(replace(plan, limit=limit))


def test_what_is_predicted_is_what_is_taken(
    tiny_model_path: Callable[..., Path], kernel_cache_dir: Path
) -> None:
    plan = _plan(
        open_gguf(tiny_model_path("qwen35")), parallel=2, ctx_size=128, threads=1,
        cache_type_v="f32", prefix_cache_bytes=10**6, cache_dir=kernel_cache_dir.parent,
    )  # fmt: skip
    model = load_model(plan.path, plan.model)
    try:
        taken = model.memory_bytes
    finally:
        model.close()
    budget = plan.budget
    assert taken["weights"] == budget.weights_bytes
    assert taken["kv"] == budget.kv_bytes
    assert budget.state_bytes == 2 * budget.sizes.row
    n_ready = plan.model.n_ready_checkpoints
    assert 0 < n_ready * budget.sizes.row <= budget.cache_bytes // 2
    assert taken["state"] == budget.state_bytes + n_ready * budget.sizes.row
    assert taken["buffers"] == pytest.approx(budget.sizes.buffers, rel=0.05)


def test_the_cache_has_one_budget_of_bytes(tiny_model_path: Callable[..., Path]) -> None:
    file = open_gguf(tiny_model_path("qwen35"))

    def planned(file: GGUFFile = file, **flags: int) -> Plan:
        return _plan(file, parallel=4, ctx_size=64, **flags)

    sizes = planned().budget.sizes
    block, state = round(16 * sizes.cell) + NODE_BYTES, sizes.row + STATE_BYTES
    plan = planned(prefix_cache_bytes=10 * state)
    assert plan.engine.prefix_cache_bytes == plan.budget.cache_bytes == 10 * state
    assert plan.model.is_elastic
    assert plan.model.n_cache_blocks == 10 * state // block
    # What the slots do not use can hold states, too.
    assert plan.model.n_checkpoints == (10 * state + 16 * block) // state
    assert planned(ctx_checkpoints=0).model.n_checkpoints == 0
    assert planned(prefix_cache_bytes=10 * state, ctx_checkpoints=2).model.n_checkpoints == 8
    nothing = planned(prefix_cache_bytes=0)
    assert nothing.model.n_cache_blocks == 0
    assert nothing.model.n_checkpoints == 16 * block // state
    assert plan.budget.total_bytes == nothing.budget.total_bytes + 10 * state


def test_nothing_said_means_half_of_what_is_free(tiny_model_path: Callable[..., Path]) -> None:
    file = open_gguf(tiny_model_path("qwen35"))
    total = _plan(file, parallel=4, ctx_size=64, prefix_cache_bytes=0).budget.total_bytes

    def n_bytes(mem_limit: int) -> int:
        return _plan(file, parallel=4, ctx_size=64, mem_limit=mem_limit).budget.cache_bytes

    assert n_bytes(total + 10**6) == 500_000
    assert n_bytes(total - 1) == 0
    assert 10**6 < n_bytes(total + 10**10) <= 2**30


def test_a_budget_without_room_for_anything_is_refused(
    tiny_model_path: Callable[..., Path], llama: GGUFFile
) -> None:
    with pytest.raises(CommandError, match="--prefix-cache-bytes 100: a block of 16 cells"):
        _plan(llama, prefix_cache_bytes=100)
    mamba = open_gguf(tiny_model_path("mamba"))
    with pytest.raises(CommandError, match="--prefix-cache-bytes 100: a state"):
        _plan(mamba, prefix_cache_bytes=100)
    with pytest.raises(CommandError, match="--ctx-checkpoints 2: --prefix-cache-bytes 0 has no"):
        _plan(mamba, prefix_cache_bytes=0, ctx_checkpoints=2)
    with pytest.raises(SettingsError, match="--prefix-cache-bytes"):
        load_settings(prefix_cache_bytes=-2)


def test_a_budget_beyond_the_machine_is_refused_with_one_that_fits(llama: GGUFFile) -> None:
    flags = {"ctx_size": 64, "prefix_cache_bytes": 10**7}
    refusal = _refusal(llama, _total(llama, **flags) - 10**6, **flags)
    assert refusal.endswith(f"; --prefix-cache-bytes {9 * 10**6} would fit")


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


@pytest.mark.parametrize(
    ("name", "table"),
    [("gemma4", "per_layer_token_embd.weight"), ("gpt2", "position_embd.weight")],
)
def test_tables_of_rows_are_not_read_whole(name: str, table: str, golden_dir: Path) -> None:
    file = open_gguf(golden_dir / name / "model.gguf")
    total = sum(tensor.n_bytes for tensor in file.tensors.values())
    assert "output.weight" not in file.tensors, "the other table is the output matrix"
    assert bytes_per_forward(file) == total - file.tensors[table].n_bytes


def test_more_tokens_read_more_experts(golden_dir: Path) -> None:
    file = open_gguf(golden_dir / "qwen3moe" / "model.gguf")
    one, eight, many = (bytes_per_forward(file, n) for n in (1, 8, 1 << 16))
    assert one < eight < many
    experts = sum(t.n_bytes for name, t in file.tensors.items() if "_exps." in name)
    n_experts = file.metadata.get_u32("qwen3moe.expert_count")
    n_used = file.metadata.get_u32("qwen3moe.expert_used_count")
    assert many - one == pytest.approx(experts * (1 - n_used / n_experts), rel=1e-3)

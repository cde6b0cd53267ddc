"""What qwen35, qwen35moe and qwen3next read from a file's keys."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from gguf import GGUFValueType

from slotmux.runtime.gguf import Metadata, ModelFileError
from slotmux.runtime.gguf.values import Entry
from slotmux.runtime.lowering.attention import Rotation
from slotmux.runtime.models.hparams import Hparams
from slotmux.runtime.models.hybrid.qwen_hybrid import (
    delta_shape,
    recurrent_layers,
    text_rotation,
    unpicked,
)


def hparams(arch: str = "qwen35", n_blocks: int = 8, **keys: Any) -> Hparams:
    """Those of a file with these keys alone ("__" for ".")."""
    entries = {
        f"{arch}.{name.replace('__', '.')}": Entry(GGUFValueType.UINT32, value, 0)
        for name, value in (keys | {"block_count": n_blocks}).items()
    }
    return Hparams(
        metadata=Metadata(entries),
        arch=arch,
        n_layers=n_blocks,
        n_embd=64,
        n_vocab=16,
        n_ctx_train=64,
        n_head=(4,) * n_blocks,
        n_head_kv=(2,) * n_blocks,
        head_dim=16,
        v_dim=16,
        n_ff=(64,) * n_blocks,
        eps=1e-6,
    )


@pytest.mark.parametrize(
    ("sections", "n_pairs", "still"),
    [
        ([11, 11, 10, 0], 32, []),  # published
        ([3, 3, 2, 0], 8, []),
        ([4, 2, 2, 0], 8, [7]),  # pair 7 is height's, which has 2: the fourth stream's, at 0
        ([2, 1, 1, 4], 8, [4, 5, 6, 7]),
        ([3, 0, 0, 0], 6, [1, 2, 4, 5]),  # begins anew after the sum
    ],
)
def test_pairs_that_no_section_claims_are_not_rotated(sections, n_pairs, still):
    frequencies = tuple(1.0 / (i + 1) for i in range(n_pairs))
    hp = hparams(rope__dimension_sections=np.array(sections, np.int32))
    found = text_rotation(hp, Rotation(frequencies, magnitude=math.pi))
    expected = [0.0 if i in still else f for i, f in enumerate(frequencies)]
    assert list(found.frequencies) == expected
    assert found.magnitude == math.pi
    assert text_rotation(hparams(), Rotation(frequencies)) == Rotation(frequencies)


@pytest.mark.parametrize("sections", [[0, 0, 0, 0], [3, 3, 2], [-1, 3, 3, 3]])
def test_sections_that_are_none_are_refused(sections):
    hp = hparams(rope__dimension_sections=np.array(sections, np.int32))
    with pytest.raises(ModelFileError, match="dimension_sections"):
        text_rotation(hp, Rotation((1.0,)))


def test_layer_kinds_by_list_or_interval():
    listed = [True, False, False, True]
    hp = hparams(
        n_blocks=4, attention__recurrent_layers=np.array(listed), full_attention_interval=2
    )
    assert recurrent_layers(hp) == listed
    hp = hparams(n_blocks=7, full_attention_interval=3)
    assert recurrent_layers(hp) == [True, True, False, True, True, False, True]


HEADS = {"ssm__state_size": 32, "ssm__group_count": 2, "ssm__time_step_rank": 6}


def test_order_of_v_heads_goes_with_the_architecture():
    assert delta_shape(hparams("qwen3next", **HEADS)).k_heads == (0, 0, 0, 1, 1, 1)
    assert delta_shape(hparams("qwen35moe", **HEADS)).k_heads == (0, 1, 0, 1, 0, 1)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"ssm__state_size": 24}, "state_size"),
        ({"ssm__time_step_rank": 5}, "time_step_rank"),
        ({"ssm__inner_size": 96}, "inner_size"),
        ({"ssm__group_count": 0}, "group_count"),
    ],
)
def test_heads_that_do_not_fit_are_refused(change, key):
    with pytest.raises(ModelFileError, match=key):
        delta_shape(hparams(**(HEADS | change)))


def test_rows_of_two_kinds_are_unpicked():
    # qwen3next's ssm_ba: for each k head its b rows, then its a rows.
    stored = ["b0", "b1", "a0", "a1", "b2", "b3", "a2", "a3"]
    assert [stored[i] for i in unpicked(4, 2)] == ["b0", "b1", "b2", "b3", "a0", "a1", "a2", "a3"]

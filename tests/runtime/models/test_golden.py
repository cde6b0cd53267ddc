"""Every architecture against logits from outside, and against itself in any company."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slotmux.runtime.models.architectures import FAMILIES
from tests.architectures import ALL, ARCHITECTURES, Architecture
from tests.runtime.models.isolation import GOLDEN, assert_golden, assert_isolated, golden, loaded


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_logits_from_outside(architecture: Architecture, kernel_cache_dir: Path) -> None:
    reference = golden(architecture.name)
    with loaded(reference.path, kernel_cache_dir) as model:
        assert_golden(model, reference)
        if architecture.is_right_in_llama_cpp:
            assert_golden(model, reference, "lcpp", architecture.lcpp_tolerance)
        else:  # until its graph is mended
            with pytest.raises(AssertionError, match="is off by"):
                assert_golden(model, reference, "lcpp")


@pytest.mark.parametrize("name", ALL)
def test_alone_or_in_company(name: str, kernel_cache_dir: Path) -> None:
    reference = golden(name)
    assert_isolated(reference.path, kernel_cache_dir, reference.prompts)


def test_no_golden_model_and_no_family_is_left_out() -> None:
    entries = json.loads((GOLDEN / "manifest.json").read_text())
    tiny = {e["name"]: e["arch"] for e in entries if not e["name"].startswith("q-")}
    assert set(ALL) == set(tiny)
    # What has no golden model of its own is held against tests/reference/transformer.py.
    decoders = {arch for arch, module in FAMILIES.items() if not module.startswith("encoders.")}
    assert decoders - set(tiny.values()) == {
        "granite",
        "granitemoe",
        "smollm3",
        "smallthinker",
    }

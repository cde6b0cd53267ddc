"""What is written of a golden model: files, manifest, and nothing over what is there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tools.golden import manifest
from tools.golden.compare import differences
from tools.golden.folder import ExistsError, require_free
from tools.golden.measured import DisagreementError, Measured
from tools.golden.recipes import RECIPES
from tools.golden.references.logits import F32, Distance, kept_rows, prompts

GOLDEN = ROOT / "tests/golden"


def test_an_entry_takes_the_place_of_its_name_or_the_end(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        manifest.put(tmp_path, {"name": name, "seed": 1})
    manifest.put(tmp_path, {"name": "b", "seed": 2})
    assert [(e["name"], e["seed"]) for e in manifest.read(tmp_path)] == [
        ("a", 1),
        ("b", 2),
        ("c", 1),
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]


def test_the_committed_manifest_is_written_as_it_stands(tmp_path: Path) -> None:
    committed = (GOLDEN / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(committed)
    manifest.put(tmp_path, manifest.read(GOLDEN)[3])
    assert (tmp_path / "manifest.json").read_text() == committed


def test_files_have_sizes_and_hashes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    assert manifest.file_entries(tmp_path) == {"x": {"bytes": 3, "sha256": digest}}


def test_nothing_is_replaced_unless_asked(tmp_path: Path) -> None:
    require_free(tmp_path, "a", may_replace=False)
    manifest.put(tmp_path, {"name": "a"})
    (tmp_path / "b").mkdir()
    for name in "ab":
        with pytest.raises(ExistsError, match=f"{name} is there; --replace"):
            require_free(tmp_path, name, may_replace=False)
        require_free(tmp_path, name, may_replace=True)


def test_differences_are_named(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder, last in ((ours, 2.0), (theirs, 2.5)):
        folder.mkdir()
        np.savez(folder / "reference.npz", a=np.array([1.0, last]), b=np.arange(3))
        (folder / "same").write_text("x")
    (ours / "new").write_text("x")
    assert list(differences(ours, theirs)) == [
        f"new: only in {ours}",
        "reference.npz: a by 5.0e-01",
    ]


def test_differences_of_models_are_named() -> None:
    llama, phi3 = GOLDEN / "llama", GOLDEN / "phi3"
    assert not list(differences(llama, llama))
    lines = {line.split(":")[0]: line for line in differences(llama, phi3)}
    assert "general.name differs" in lines["model.gguf"]
    assert "tensor blk.0.attn_qkv.weight only in one" in lines["model.gguf"]


def measured(hf: F32, lcpp: F32, name: str = "llama") -> Measured:
    return Measured(
        recipe=RECIPES[name],
        path=Path("model.gguf"),
        checkpoint=None,
        n_parameters=1,
        prompts=[list(range(150))],
        hf=[hf],
        lcpp=[lcpp],
        stepped=[lcpp],
    )


def test_references_that_disagree_make_no_golden_model() -> None:
    logits = np.random.default_rng(1).standard_normal((8, 50)).astype(np.float32)
    measured(logits, logits + np.float32(1e-5)).check()
    off = logits.copy()
    off[3, 4] += 1e-3
    with pytest.raises(DisagreementError, match=r"llama: .* differ by 1\.0e-03"):
        measured(logits, off).check()
    measured(logits, off, "gemma3").check()  # llama.cpp's table of GELU
    off[3, 4] = np.nan
    with pytest.raises(DisagreementError):
        measured(logits, off, "gemma3").check()


def test_the_second_reference_keeps_its_last_rows() -> None:
    logits = np.zeros((8, 5), np.float32)
    arrays = measured(logits, logits).arrays()
    assert set(arrays) == {"ids0", "rows0", "hf0", "lrows0", "lcpp0"}
    assert np.asarray(arrays["rows0"]).tolist() == list(range(142, 150))


def test_prompts_are_those_of_the_committed_models() -> None:
    with np.load(GOLDEN / "llama/reference.npz") as file:
        want = [file[f"ids{i}"].tolist() for i in range(3)]
        rows = [file[f"rows{i}"].tolist() for i in range(3)]
    recipe = RECIPES["llama"]
    assert prompts(recipe.seed, 547, (7, 37, 150), 6) == want
    assert [kept_rows(n) for n in (7, 37, 150)] == rows


def test_distance() -> None:
    got, reference = np.array([[1, 2], [4, 3]], np.float32), np.array([[1, 2], [3, 4]], np.float32)
    distance = Distance.of(got, reference)
    assert (distance.max_abs, distance.argmax_agree) == (1.0, 0.5)
    assert distance.relative_l2 == pytest.approx((2 / 30) ** 0.5)


def test_the_manifest_is_true() -> None:
    for entry in json.loads((GOLDEN / "manifest.json").read_text()):
        assert entry["files"] == manifest.file_entries(GOLDEN / entry["name"]), entry["name"]

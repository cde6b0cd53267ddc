"""A golden folder and its entry of the manifest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tools.golden import manifest
from tools.golden.measured import RELATIVE_TOLERANCE, Measured
from tools.golden.page import architecture, page
from tools.golden.references.llama_cpp import Library
from tools.golden.references.quantised import Quantised

# Of llama.cpp's own distance; a file that hardly rounds needs some room.
QUANTISED_FACTOR, QUANTISED_FLOOR = 3, 2e-3


class ExistsError(RuntimeError):
    """A golden model is there already, and nobody asked to replace it."""


def require_free(golden: Path, name: str, *, may_replace: bool) -> None:
    """Raise ExistsError if ``name`` has a folder or an entry, unless it may be replaced."""
    has_entry = any(entry["name"] == name for entry in manifest.read(golden))
    if not may_replace and (has_entry or (golden / name).exists()):
        raise ExistsError(f"{golden / name} is there; --replace makes it anew")


def write(measured: Measured, golden: Path, library: Library) -> Path:
    """Write the folder of ``measured`` and its entry, in place of what was there.

    The folder is whole at any time: the old one goes when the new one is complete.
    """
    name = measured.recipe.name
    out, beside = golden / name, golden / f".{name}.new"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    fill(measured, beside, library)
    if out.exists():
        shutil.rmtree(out)
    beside.rename(out)
    manifest.put(golden, entry(measured, out))
    return out


def fill(measured: Measured, out: Path, library: Library) -> None:
    reader = gguf.GGUFReader(measured.path)
    if measured.recipe.keeps_float:
        shutil.copyfile(measured.path, out / "model.gguf")
        save_arrays(out / "reference.npz", measured.arrays())
    if measured.recipe.has_tokenizations:
        from tools.golden.references import tokenizations

        tokenizations.write(library, measured.path, measured.checkpoint, out / "tokenizer.json")
    for file in measured.quantised:
        shutil.copyfile(file.path, out / file.path.name)
        save_arrays(out / f"reference-{file.kind}.npz", dict(file.arrays))
    if measured.quantised:
        types = {file.kind: file.tensor_types for file in measured.quantised}
        (out / "tensor_types.json").write_text(json.dumps(types, indent=0))
    (out / "README.md").write_text(page(measured, reader))


def save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    np.savez_compressed(path, **arrays)


def entry(measured: Measured, out: Path) -> manifest.Entry:
    """What tests read of the model whose folder is ``out``."""
    recipe = measured.recipe
    made: manifest.Entry = {
        "name": recipe.name,
        "arch": architecture(gguf.GGUFReader(measured.path)),
        "params": measured.n_parameters,
        "hf_class": recipe.hf_class,
        "seed": recipe.seed,
        "logit_std": measured.deviation,
        "hf_vs_llamacpp_max_abs": measured.max_abs,
        "argmax_agree": measured.argmax_agree,
        "llamacpp_batch_vs_token_by_token_max_abs": measured.stepped_max_abs,
        "tol_abs": measured.tolerance,
        "files": manifest.file_entries(out),
    }
    if measured.drafted:
        made["mtp_hf_vs_llamacpp_max_abs"] = max(d.max_abs for d in measured.drafted)
    if measured.quantised:
        made["quant"] = {
            file.kind: quantised_entry(file, measured.deviation) for file in measured.quantised
        }
    return made


def quantised_entry(file: Quantised, deviation: float) -> dict[str, float]:
    lcpp = file.lcpp_to_deq
    return {
        "lcpp_vs_deq_max_abs": lcpp.max_abs,
        "lcpp_vs_deq_rel_l2": lcpp.relative_l2,
        "deq_vs_f32_rel_l2": file.deq_to_float.relative_l2,
        "tol_abs_deq": RELATIVE_TOLERANCE * deviation,
        "tol_rel_l2_lcpp": max(QUANTISED_FACTOR * lcpp.relative_l2, QUANTISED_FLOOR),
    }

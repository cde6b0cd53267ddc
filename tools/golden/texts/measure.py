"""A recipe of a model of texts through both implementations, and its folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from tools.golden import manifest
from tools.golden.llama_source import RELEASE, LlamaCpp
from tools.golden.measured import GELU_DISAGREEMENT, RELATIVE_TOLERANCE, DisagreementError
from tools.golden.page import architecture
from tools.golden.page import metadata as metadata_rows
from tools.golden.page import tensors as tensor_rows
from tools.golden.recipe import PROMPT_LENGTHS
from tools.golden.references.llama_cpp import Library
from tools.golden.references.logits import F32, prompts
from tools.golden.texts.recipes import TextRecipe
from tools.golden.texts.vectors import of_llama, of_transformers

__all__ = ["DisagreementError", "Measured", "measure", "write"]
N_SPECIALS = 6
PAGE = """\
# {name}

A tiny random-weight model of GGUF architecture `{arch}` with vectors of three texts from two
independent implementations: a `{hf_class}` of transformers (float32, CPU, eager attention, seed
{seed}), and llama.cpp {llama}, whose own converter made the file. `reference.npz` has `ids0..2`,
token ids as they are fed (nothing is added), `hf0..2` and `lcpp0..2`, the pooled vectors
({pooling}), not normalised.

Measured: the two differ by at most {max_abs:.1e} at a standard deviation of {deviation:.2f}.
Tolerance: {tolerance:.1e} against `hf*`.{gelu}

## Metadata

| key | value |
| --- | --- |
{metadata}

## Tensors

| name | type | shape |
| --- | --- | --- |
{tensors}
"""
GELU = " llama.cpp looks GELU up in a half-precision table: its own is only a second opinion."


@dataclass(slots=True)
class Measured:
    """A file and the vectors of its texts."""

    recipe: TextRecipe
    path: Path
    texts: list[list[int]]
    hf: list[F32]
    lcpp: list[F32]

    @property
    def deviation(self) -> float:
        return max(float(np.std(v)) if v.size > 1 else float(abs(v[0])) for v in self.hf)

    @property
    def max_abs(self) -> float:
        return max(float(np.abs(a - b).max()) for a, b in zip(self.hf, self.lcpp, strict=True))

    @property
    def tolerance(self) -> float:
        return RELATIVE_TOLERANCE * self.deviation


def measure(recipe: TextRecipe, llama: LlamaCpp, library: Library, work: Path) -> Measured:
    """Raises DisagreementError when the two are not the same function."""
    from tools.golden.model import checkpoint
    from tools.golden.model.convert import convert

    base = recipe.recipe
    folder, path = work / "checkpoint", work / "model.gguf"
    folder.mkdir()
    model = checkpoint.build(base)
    checkpoint.save(model, base, folder)
    _write_pooling(folder, recipe.pooling)
    if recipe.architecture:
        config = json.loads((folder / "config.json").read_text())
        told = {**config, "architectures": [recipe.architecture]}
        (folder / "config.json").write_text(json.dumps(told))
    convert(
        llama.source,
        folder,
        path,
        name=f"golden-{base.name}",
        pre=base.pre,
        reads_raw_config=base.reads_raw_config,
        flags=base.converter_flags,
    )
    texts = prompts(base.seed, base.n_vocab, PROMPT_LENGTHS, N_SPECIALS)
    measured = Measured(
        recipe,
        path,
        texts,
        of_transformers(model, texts, recipe.pooling, sees_both_sides=recipe.sees_both_sides),
        of_llama(library, path, texts, recipe.pooling),
    )
    share = GELU_DISAGREEMENT if base.looks_up_gelu else RELATIVE_TOLERANCE / 5
    if not measured.max_abs <= share * measured.deviation:
        raise DisagreementError(
            f"{base.name}: vectors differ by {measured.max_abs:.1e} at a deviation of "
            f"{measured.deviation:.2f}"
        )
    return measured


def _write_pooling(folder: Path, pooling: str) -> None:
    """As sentence-transformers stores it, for the converter."""
    if pooling == "rank":
        return
    names = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}
    (folder / "1_Pooling").mkdir()
    told = {f"pooling_mode_{name}": key == pooling for key, name in names.items()}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(told))
    modules = [{"idx": 1, "name": "1", "path": "1_Pooling", "type": "models.Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))


def write(measured: Measured, golden: Path) -> None:
    """The folder and its entry of the manifest, in place of what was there."""
    recipe = measured.recipe
    out = golden / recipe.name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    shutil.copyfile(measured.path, out / "model.gguf")
    arrays: dict[str, np.ndarray] = {}
    for i, text in enumerate(measured.texts):
        arrays[f"ids{i}"] = np.asarray(text, np.int32)
        arrays[f"hf{i}"], arrays[f"lcpp{i}"] = measured.hf[i], measured.lcpp[i]
    np.savez_compressed(out / "reference.npz", **arrays)  # type: ignore[arg-type]
    reader = gguf.GGUFReader(measured.path)
    page = PAGE.format(
        name=recipe.name,
        arch=architecture(reader),
        hf_class=recipe.recipe.hf_class,
        seed=recipe.recipe.seed,
        llama=RELEASE,
        pooling=recipe.pooling,
        max_abs=measured.max_abs,
        deviation=measured.deviation,
        tolerance=measured.tolerance,
        gelu=GELU if recipe.recipe.looks_up_gelu else "",
        metadata=metadata_rows(reader),
        tensors=tensor_rows(reader),
    )
    (out / "README.md").write_text(page)
    entry: manifest.Entry = {
        "name": recipe.name,
        "arch": architecture(reader),
        "pooling": recipe.pooling,
        "deviation": measured.deviation,
        "max_abs": measured.max_abs,
        "tolerance": measured.tolerance,
        "files": manifest.file_entries(out),
    }
    manifest.put(golden, entry)

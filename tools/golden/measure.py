"""A recipe through both implementations."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf

from tools.golden.llama_source import LlamaCpp
from tools.golden.measured import Drafted, Measured
from tools.golden.page import architecture
from tools.golden.recipe import PROMPT_LENGTHS, AnyRecipe, Recipe, RwkvRecipe
from tools.golden.references.llama_cpp import Library, logits, stepped_logits
from tools.golden.references.logits import F32, kept_rows, prompts
from tools.golden.references.quantised import quantised

N_SPECIALS = 6  # of the trained vocabularies; RWKV's has one


def measure(recipe: AnyRecipe, llama: LlamaCpp, library: Library, work: Path) -> Measured:
    """Make the recipe's model in the empty folder ``work`` and compute both references.

    Raises DisagreementError when they are not the same function.
    """
    if isinstance(recipe, RwkvRecipe):
        measured = of_rwkv(recipe, library, work)
    else:
        measured = of_transformers(recipe, llama, library, work)
    measured.check()
    for kind in recipe.quantised:
        file = quantised(library, llama.binaries, measured.path, kind, measured.prompts)
        measured.quantised.append(file)
    return measured


def kept(all_logits: list[F32]) -> list[F32]:
    return [rows[kept_rows(len(rows))] for rows in all_logits]


def of_rwkv(recipe: RwkvRecipe, library: Library, work: Path) -> Measured:
    from tools.golden.model import rwkv_file, rwkv_weights
    from tools.golden.references import rwkv

    path = work / "model.gguf"
    weights = rwkv_weights.draw(recipe)
    rwkv_file.write(path, recipe, weights, rwkv_weights.vocabulary(recipe.n_vocab))
    asked = prompts(recipe.seed, recipe.n_vocab, PROMPT_LENGTHS, 1)
    rows = [kept_rows(len(p)) for p in asked]
    return Measured(
        recipe=recipe,
        path=path,
        checkpoint=None,
        n_parameters=sum(w.size for w in weights.values()),
        prompts=asked,
        hf=kept(rwkv.logits(recipe, weights, asked)),
        lcpp=logits(library, path, asked, rows),
        stepped=stepped_logits(library, path, asked, rows),
    )


def with_heads_everywhere(path: Path) -> Path:
    """A copy whose layers without query heads have as many as the others; none has more K and V
    heads."""
    copy = path.with_name("heads.gguf")
    shutil.copyfile(path, copy)
    reader = gguf.GGUFReader(copy, "r+")
    field = reader.fields[f"{architecture(reader)}.attention.head_count"]
    most = max(field.contents())
    for i in field.data:
        field.parts[i][:] = most
    return copy


def of_transformers(recipe: Recipe, llama: LlamaCpp, library: Library, work: Path) -> Measured:
    from tools.golden.model import checkpoint
    from tools.golden.model.convert import convert
    from tools.golden.model.table import store_table
    from tools.golden.references import llama_mtp, transformers_mtp

    folder, path = work / "checkpoint", work / "model.gguf"
    folder.mkdir()
    model = checkpoint.build(recipe)
    checkpoint.save(model, recipe, folder)
    convert(
        llama.source,
        folder,
        path,
        name=recipe.file_name or f"golden-{recipe.name}",
        pre=recipe.pre,
        reads_raw_config=recipe.reads_raw_config,
        has_plain_vocab=recipe.has_plain_vocab,
        flags=recipe.converter_flags,
    )
    if recipe.table is not None:
        store_table(path, recipe.table[1])
    for_llama = with_heads_everywhere(path) if recipe.has_heads_everywhere else path
    asked = prompts(recipe.seed, recipe.n_vocab, PROMPT_LENGTHS, N_SPECIALS)
    rows = [kept_rows(len(p)) for p in asked]
    measured = Measured(
        recipe=recipe,
        path=path,
        checkpoint=folder if recipe.tokenizer == "bpe" else None,
        n_parameters=checkpoint.n_parameters(model),
        prompts=asked,
        hf=kept(checkpoint.logits(model, asked)),
        lcpp=logits(library, for_llama, asked, rows),
        stepped=stepped_logits(library, for_llama, asked, rows),
    )
    if recipe.has_mtp:
        ours = llama_mtp.drafts(library, path, asked)
        firsts = [d.ids[0] for d in ours]
        theirs = transformers_mtp.drafts(model, folder, recipe, asked, firsts)
        measured.drafted = [
            Drafted(d.trunk, d.hidden, d.logits, hf, d.ids, d.chain, chain_hf)
            for d, (hf, chain_hf) in zip(ours, theirs, strict=True)
        ]
    return measured

"""`python -m tools.golden.tokenizers` makes tests/golden/tokenizers: vocabularies, and the tokens
that llama.cpp makes of texts with them (ids.npz)."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np

from tools.golden.llama_source import DEFAULT, LlamaCpp
from tools.golden.references.llama_cpp import Library, LlamaModel
from tools.golden.tokenizers.texts import TEXTS
from tools.golden.tokenizers.variants import FILES, variants, with_keys

OUT = Path("tests/golden/tokenizers")
# Vocabularies of llama.cpp's sources that have no tokens beside them.
BARE = ("aquila", "baichuan", "gpt-neox", "nomic-bert-moe")
SEPARATOR = "\n__ggml_vocab_test__\n"


def write_file(path: Path, keys: Mapping[str, object]) -> None:
    """A model file that is a vocabulary and nothing else."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in keys.items():
        key = f"tokenizer.ggml.{name}"
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, bytes):
            writer.add_array(key, value)
        else:
            assert isinstance(value, list)
            writer.add_array(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tokens(model: LlamaModel) -> tuple[list[int], list[int]]:
    """Of all texts, without special tokens and then with them: all ids, and how many each."""
    found = [
        model.tokenize(text, add_special=special, parse_special=special)
        for special in (False, True)
        for text in TEXTS
    ]
    return [token for ids in found for token in ids], [len(ids) for ids in found]


def make(library: Library, out: Path) -> None:
    """Write vocabularies, texts.json and ids.npz into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    files: dict[str, Mapping[str, object]] = {name: build() for name, build in FILES.items()}
    for name, keys in files.items():
        write_file(out / f"{name}.gguf", keys)
    names, ids, lengths = [], [], []
    with tempfile.TemporaryDirectory(prefix="golden-") as work:
        path = Path(work) / "vocabulary.gguf"
        for name, file, over, left_out in variants():
            write_file(path, with_keys(files[file], over, left_out))
            with LlamaModel(library, path, vocab_only=True) as model:
                of_variant = tokens(model)
            print(f"{name}: {len(of_variant[0])} tokens", flush=True)
            names.append(name)
            ids.append(of_variant[0])
            lengths.append(of_variant[1])
    (out / "texts.json").write_text(json.dumps(TEXTS, indent=0) + "\n", "utf-8")
    np.savez_compressed(
        out / "ids.npz",
        names=np.array(names),
        ids=np.array([token for part in ids for token in part], np.int16),
        lengths=np.array(lengths, np.int16),
    )


def write_bare(library: Library, models: Path, out: Path) -> None:
    """Tokens of gpt-2's texts, as llama.cpp's sources have them of other vocabularies."""
    texts = (models / "ggml-vocab-gpt-2.gguf.inp").read_bytes().decode()
    for name in BARE:
        with LlamaModel(library, models / f"ggml-vocab-{name}.gguf", vocab_only=True) as model:
            found = [
                model.tokenize(text, add_special=False, parse_special=False)
                for text in texts.removesuffix(SEPARATOR).split(SEPARATOR)
            ]
        lines = "".join(f"{' '.join(map(str, ids))}\n" for ids in found)
        (out / f"ggml-vocab-{name}.gguf.out").write_text(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.golden.tokenizers", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help="folder (%(default)s)")
    parser.add_argument("--llama-cpp", type=Path, default=DEFAULT, help="a built llama.cpp")
    given = parser.parse_args()
    llama = LlamaCpp.at(given.llama_cpp)
    if missing := llama.missing(quantises=False):
        sys.exit(f"not there: {', '.join(map(str, missing))}")
    library = Library(llama.binaries)
    make(library, given.out)
    write_bare(library, llama.source / "models", given.out)


if __name__ == "__main__":
    main()

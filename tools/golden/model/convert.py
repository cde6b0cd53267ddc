"""llama.cpp's own converter, with the pre-tokenizer named instead of guessed.

Run as a program it stands in for convert_hf_to_gguf.py:
`convert.py SOURCE PRE RAW PLAIN ARGUMENTS...`.
The converter knows pre-tokenizers by a hash of what real vocabularies do, and ours are not real.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

SCRIPT = "convert_hf_to_gguf.py"


class ConversionError(RuntimeError):
    """The converter failed; the message is the end of what it said."""


def convert(
    source: Path,
    checkpoint: Path,
    out: Path,
    *,
    name: str,
    pre: str,
    reads_raw_config: bool = False,
    has_plain_vocab: bool = False,
    flags: tuple[str, ...] = (),
) -> None:
    """Write ``checkpoint`` to ``out`` as a float32 GGUF file."""
    raw, plain = "raw" if reads_raw_config else "", "plain" if has_plain_vocab else ""
    command = [
        *(sys.executable, __file__, str(source), pre, raw, plain),
        *(str(checkpoint), "--outfile", str(out), "--outtype", "f32", "--model-name", name),
        *flags,
    ]
    paths = [str(source / "gguf-py"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ConversionError((done.stdout + done.stderr)[-2000:])


class RawConfig:
    """In the place of transformers' AutoConfig: the converter falls back to config.json."""

    @staticmethod
    def from_pretrained(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("config.json shall be read as it stands")


def set_plain_vocab(model: Any, text_model: Any) -> None:
    """Have any converter write the vocabulary as byte-level BPE: some look for tokens or files of
    their own family."""
    prepare = model.prepare_metadata

    def prepare_plainly(self: Any, *given: Any, **named: Any) -> None:
        type(self).set_vocab = text_model._set_vocab_gpt2
        prepare(self, *given, **named)

    model.prepare_metadata = prepare_plainly


def main(source: Path, pre: str, raw: str, plain: str, arguments: list[str]) -> None:
    sys.path[:0] = [str(source), str(source / "gguf-py")]
    from conversion import base

    base.TextModel.get_vocab_base_pre = lambda *_: pre
    if raw:
        base.AutoConfig = RawConfig
    if plain:
        set_plain_vocab(base.ModelBase, base.TextModel)
    sys.argv = [SCRIPT, *arguments]
    runpy.run_path(str(source / SCRIPT), run_name="__main__")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])

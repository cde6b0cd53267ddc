"""Files of llama-quantize, with llama.cpp's logits of the file and of its exact weights.

``lcpp`` is the file as it is: llama.cpp's kernels round activations too. ``deq`` is float32 over
the same weights, dequantised first: what a runtime comes near to when it rounds less.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from tools.golden.references.llama_cpp import Library, LlamaError, logits
from tools.golden.references.logits import F32, Distance

N_LAST = 4


@dataclass(frozen=True, slots=True)
class Quantised:
    """A file of one type and what was measured of it."""

    kind: str
    path: Path
    arrays: dict[str, F32]
    tensor_types: dict[str, str]
    lcpp_to_deq: Distance
    deq_to_float: Distance


def kept_rows(n: int) -> list[int]:
    """All of a prompt of up to eight tokens, else the last four."""
    return list(range(n)) if n <= 8 else list(range(n - N_LAST, n))


def dequantised_copy(source: Path, out: Path) -> dict[str, str]:
    """A float32 file with the same metadata; returns the types that the tensors had."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        item = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=item)
    types = {}
    for tensor in reader.tensors:
        types[tensor.name] = tensor.tensor_type.name
        values = np.asarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type), np.float32)
        shape = [int(n) for n in reversed(tensor.shape)]
        writer.add_tensor(tensor.name, np.ascontiguousarray(values.reshape(shape)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return types


def quantise(binaries: Path, source: Path, out: Path, kind: str) -> None:
    """Run llama-quantize with its default mix of ``kind``."""
    done = subprocess.run(
        [str(binaries / "llama-quantize"), str(source), str(out), kind, "2"],
        env={**os.environ, "LD_LIBRARY_PATH": str(binaries)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise LlamaError(f"llama-quantize failed: {(done.stdout + done.stderr)[-500:]}")


def quantised(
    library: Library, binaries: Path, path: Path, kind: str, prompts: Sequence[Sequence[int]]
) -> Quantised:
    """The file of ``kind`` beside ``path``, with its references."""
    rows = [kept_rows(len(prompt)) for prompt in prompts]
    out, copy = path.with_name(f"model-{kind}.gguf"), path.with_name(f"exact-{kind}.gguf")
    quantise(binaries, path, out, kind)
    types = dequantised_copy(out, copy)
    float32, lcpp, deq = (logits(library, file, prompts, rows) for file in (path, out, copy))
    copy.unlink()
    arrays: dict[str, F32] = {}
    for i, prompt in enumerate(prompts):
        arrays[f"ids{i}"] = np.asarray(prompt, np.int32)
        arrays[f"rows{i}"] = np.asarray(rows[i], np.int32)
        arrays[f"lcpp{i}"], arrays[f"deq{i}"] = lcpp[i], deq[i]
    exact = np.concatenate(deq)
    return Quantised(
        kind,
        out,
        arrays,
        types,
        Distance.of(np.concatenate(lcpp), exact),
        Distance.of(exact, np.concatenate(float32)),
    )

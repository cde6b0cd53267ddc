"""Write GGUFs of real models' shapes with random weights: speed does not depend on what they say.

    python -m tests.bench.synth.gguf_file --list
    python -m tests.bench.synth.gguf_file qwen35-0.8b DIR --type Q8_0
    python -m tests.bench.synth.gguf_file lfm2-350m DIR --type Q4_K_M --quantizer llama-quantize

F16, Q8_0, Q4_0 and Q4_1 are written directly. Every other type (Q4_K_M, Q6_K, Q2_K, IQ4_XS, BF16,
...) is made by llama-quantize from the F16 file, which stays beside it for the next type.
Needs the memory of one tensor, at most.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType

from tests.bench.synth import families as families
from tests.bench.synth import latent as latent
from tests.bench.synth import qwen4exp as qwen4exp
from tests.bench.synth import rwkv as rwkv
from tests.bench.synth.blocks import Experts, Heads, Ssm
from tests.bench.synth.plan import FilePlan, TensorPlan

DIRECT_TYPES = ("F16", "Q8_0", "Q4_0", "Q4_1")
CHUNK = 1 << 22  # weights drawn at a time

# Dimensions as published in each model's config.json; names with -like are small relatives of a
# family whose published models are too large for a quick measurement.
_DELTA = Ssm(inner=2048, state=128, n_heads=16, n_groups=16)
_NEMOTRON = "M-M-M-M*-M-M-M-M*-M-M-"
SHAPES: dict[str, Callable[[], FilePlan]] = {
    "llama-1b": lambda: families.dense("llama", 2048, 16, 8192, Heads(32, 8, 64), 128256),
    "qwen3-0.6b": lambda: families.dense("qwen3", 1024, 28, 3072, Heads(16, 8, 128), 151936),
    "qwen35-0.8b": lambda: families.qwen35(1024, 24, 3584, Heads(8, 2, 256), _DELTA, 248320),
    "qwen35-2b": lambda: families.qwen35(2048, 24, 6144, Heads(8, 2, 256), _DELTA, 248320),
    "qwen3moe-like": lambda: families.qwen3moe(
        1024, 12, Heads(16, 4, 128), Experts(64, 8, 256), 65536
    ),
    "qwen35moe-like": lambda: families.qwen35moe(
        1024, 12, Heads(8, 2, 256), _DELTA, Experts(64, 8, 256, n_shared_ff=256), 65536
    ),
    "qwen4exp-like": lambda: qwen4exp.qwen4exp(
        1024,
        12,
        Heads(8, 2, 256),
        _DELTA,
        Experts(64, 8, 256, n_shared_ff=256),
        qwen4exp.Streams(4, 128),
        qwen4exp.Index(8, 128, 2048, 16),
        65536,
    ),
    "lfm2-350m": lambda: families.lfm2(
        1024, 16, 4608, Heads(16, 8, 64), (2, 5, 8, 10, 12, 14), 65536
    ),
    "lfm2moe-like": lambda: families.lfm2(
        1024, 12, 3584, Heads(16, 4, 64), (2, 6, 10), 65536, Experts(32, 4, 512), n_dense=2
    ),
    "mamba-130m": lambda: families.mamba("mamba", 768, 24, Ssm(1536, 16, 48), 50280),
    "mamba2-130m": lambda: families.mamba("mamba2", 768, 24, Ssm(1536, 128, 24), 50288),
    "granite-4-h-350m": lambda: families.granitehybrid(
        768, 32, 2048, Heads(12, 4, 64), Ssm(1536, 128, 48), (10, 13, 17, 27), 100352
    ),
    "falcon-h1-0.5b": lambda: families.falcon_h1(
        1024, 36, 2048, Heads(8, 2, 64), Ssm(1536, 128, 24), 32784
    ),
    "nemotron-h-like": lambda: families.nemotron_h(
        1024, _NEMOTRON, 4096, Heads(16, 4, 64), Ssm(2048, 128, 32, n_groups=8), 65536
    ),
    "jamba-like": lambda: families.jamba(
        1024, 8, Heads(16, 4, 64), Ssm(2048, 16, 64), (4,), Experts(4, 2, 2048), 65536
    ),
    # GLM-4.7-Flash has 47 layers, Ling 3 tiny has 24.
    "glm47-flash-like": lambda: latent.deepseek2(
        2048,
        8,
        10240,
        latent.Latent(20, 768, 512, 192, 64, 256),
        Experts(64, 4, 1536),
        154880,
        has_next=True,
    ),
    "ling3-tiny-like": lambda: latent.bailingmoe3(
        1536,
        12,
        4608,
        latent.Latent(16, 0, 512, 128, 64, 128),
        128,
        6,
        Experts(128, 8, 512),
        157184,
    ),
    "rwkv6-0.1b": lambda: rwkv.rwkv6(768, 12, 2688, 64, 32, 64, 65536),
    "rwkv7-0.1b": lambda: rwkv.rwkv7(768, 12, 3072, 64, rwkv.Ranks(64, 64, 32, 128), 65536),
}


def file_name(shape: str, type_name: str) -> str:
    return f"{shape}.{type_name}.gguf"


def write(plan: FilePlan, name: str, path: Path, type_name: str, seed: int = 0) -> None:
    """Write the file whole or not at all: a temporary name until it is done."""
    partial = path.with_name(path.name + ".partial")
    writer = gguf.GGUFWriter(partial, plan.arch)
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{type_name}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in plan.keys.items():
        _add_key(writer, key, value)
    n_vocab = next(t.shape[0] for t in plan.tensors if t.name == "token_embd.weight")
    _add_vocabulary(writer, n_vocab)
    types = [_stored_type(tensor, GGMLQuantizationType[type_name]) for tensor in plan.tensors]
    for tensor, stored in zip(plan.tensors, types, strict=True):
        shape = gguf.quant_shape_to_byte_shape(tensor.shape, stored)
        writer.add_tensor_info(
            tensor.name, shape, np.dtype(np.uint8), int(np.prod(shape)), raw_dtype=stored
        )
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        rng = np.random.default_rng(seed)
        for tensor, stored in zip(plan.tensors, types, strict=True):
            writer.write_tensor_data(_draw(tensor, stored, rng))
        writer.close()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _add_key(writer: gguf.GGUFWriter, key: str, value: object) -> None:
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_string(key, str(value))


def _add_vocabulary(writer: gguf.GGUFWriter, n_vocab: int) -> None:
    """The 256 bytes as GPT-2 spells them, one merge, and names: any text can be tokenized."""
    spelled = [chr(c) for c in (*range(33, 127), *range(161, 173), *range(174, 256))]
    spelled += [chr(256 + i) for i in range(256 - len(spelled))]
    tokens = [*spelled, "aa", "<|end|>"]
    tokens += [f"<{i}>" for i in range(len(tokens), n_vocab)]
    types = [gguf.TokenType.NORMAL] * n_vocab
    types[257] = gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens[:n_vocab])
    writer.add_token_types(types)
    writer.add_token_merges(["a a"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(257)
    writer.add_add_bos_token(False)


def _stored_type(tensor: TensorPlan, wanted: GGMLQuantizationType) -> GGMLQuantizationType:
    """F16 where the rows are no multiple of the wanted type's block, as converters do it."""
    if tensor.form == "float":
        return GGMLQuantizationType.F32
    if tensor.form == "half" or tensor.shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0]:
        return GGMLQuantizationType.F16
    return wanted


def _draw(tensor: TensorPlan, stored: GGMLQuantizationType, rng: np.random.Generator) -> np.ndarray:
    """The tensor's bytes, drawn and quantised some rows at a time."""
    n_cols = tensor.shape[-1]
    n_rows = int(np.prod(tensor.shape[:-1]))
    low, width = np.float32(tensor.low), np.float32(tensor.high - tensor.low)
    data = np.empty(gguf.quant_shape_to_byte_shape((n_rows, n_cols), stored), np.uint8)
    step = max(CHUNK // n_cols, 1)
    for start in range(0, n_rows, step):
        part = rng.random((min(step, n_rows - start), n_cols), dtype=np.float32) * width + low
        data[start : start + step] = gguf.quants.quantize(part, stored).view(np.uint8)
    return data


def ensure(
    shape: str, type_name: str, folder: Path, quantizer: Path | None = None, seed: int = 0
) -> Path:
    """The file of a shape and type in ``folder``, made if it is not there."""
    path = folder / file_name(shape, type_name)
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    if type_name in DIRECT_TYPES:
        write(SHAPES[shape](), shape, path, type_name, seed)
        return path
    if quantizer is None:
        raise ValueError(f"{type_name} is made by llama-quantize: say where it is (--quantizer)")
    source = ensure(shape, "F16", folder, seed=seed)
    partial = path.with_name(path.name + ".partial")
    try:
        command = [str(quantizer), str(source), str(partial), type_name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        partial.replace(path)
    except subprocess.CalledProcessError as error:
        raise ValueError(f"llama-quantize: {error.stderr.decode()[-500:]}") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _list_shapes() -> None:
    for name, plan in SHAPES.items():
        tensors = plan().tensors
        n_weights = sum(int(np.prod(tensor.shape)) for tensor in tensors)
        print(f"{name:<20}{len(tensors):>5} tensors{n_weights / 1e6:>9.0f} M weights")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.synth.gguf_file",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shape", nargs="?", help="a name of --list, or 'all'")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--type", default="F16", help="any type that llama-quantize knows")
    parser.add_argument("--quantizer", type=Path, help="llama-quantize, for types not written here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true", help="the shapes there are")
    options = parser.parse_args()
    if options.list:
        _list_shapes()
        return os.EX_OK
    if options.folder is None or options.shape not in (*SHAPES, "all"):
        parser.error("say a shape of --list and a folder")
    for shape in SHAPES if options.shape == "all" else [options.shape]:
        try:
            path = ensure(shape, options.type, options.folder, options.quantizer, options.seed)
        except ValueError as error:
            print(f"{shape}: {error}", file=sys.stderr)
            return 1
        print(f"{path}: {path.stat().st_size / 1e6:.0f} MB", flush=True)
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())

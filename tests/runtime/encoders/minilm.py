"""all-MiniLM-L6-v2's checkpoint as a GGUF file: the tensors and the keys that llama.cpp's converter
writes and a reader of vectors needs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Q8_0 = GGMLQuantizationType.Q8_0
TOP = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm": "token_embd_norm",
}
PARTS = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
FLOATS = ("position_embd.weight", "token_types.weight")  # whatever the type of the others


def tensors(path: Path) -> dict[str, F32]:
    """Float32 tensors of a safetensors file."""
    data = path.read_bytes()
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + n])
    header.pop("__metadata__", None)
    found = {}
    for name, told in header.items():
        begin, end = (8 + n + offset for offset in told["data_offsets"])
        if told["dtype"] == "F32":
            found[name] = np.frombuffer(data[begin:end], "<f4").reshape(told["shape"])
    return found


def gguf_names(n_layers: int) -> dict[str, str]:
    """The file's names by the checkpoint's."""
    names = {}
    for prefix, name in TOP.items():
        kinds = ("",) if prefix.endswith(".weight") else (".weight", ".bias")
        names |= {prefix + kind: name + kind for kind in kinds}
    for layer in range(n_layers):
        for part, name in PARTS.items():
            for kind in (".weight", ".bias"):
                names[f"encoder.layer.{layer}.{part}{kind}"] = f"blk.{layer}.{name}{kind}"
    return names


def words_of(folder: Path) -> tuple[list[str], list[int]]:
    """The vocabulary as files have it: "▁" where a word begins, no "##" where one goes on; 3: a
    control token."""
    words, kinds = [], []
    for word in (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]:
        is_control = word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        kinds.append(3 if is_control else 1)
        begins = "" if is_control else "▁"
        words.append(word.removeprefix("##") if word.startswith("##") else begins + word)
    return words, kinds


def write(folder: Path, path: Path, *, is_q8: bool) -> None:
    """The checkpoint in ``folder`` as float32, or its matrices as Q8_0."""
    config = json.loads((folder / "config.json").read_text())
    writer = GGUFWriter(path, "bert")
    for key, name in (
        ("block_count", "num_hidden_layers"), ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"), ("context_length", "max_position_embeddings"),
        ("attention.head_count", "num_attention_heads"),
    ):  # fmt: skip
        writer.add_uint32(f"bert.{key}", config[name])
    writer.add_float32("bert.attention.layer_norm_epsilon", config["layer_norm_eps"])
    writer.add_bool("bert.attention.causal", val=False)
    writer.add_uint32("bert.pooling_type", 1)
    words, kinds = words_of(folder)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    writer.add_token_list(words)
    writer.add_token_types(kinds)
    writer.add_uint32("tokenizer.ggml.token_type_count", config["type_vocab_size"])
    for key, word in (("bos", "[CLS]"), ("eos", "[SEP]"), ("unknown", "[UNK]")):
        writer.add_uint32(f"tokenizer.ggml.{key}_token_id", words.index(word))
    for key in ("bos", "eos"):
        writer.add_bool(f"tokenizer.ggml.add_{key}_token", val=True)
    checkpoint = tensors(folder / "model.safetensors")
    for source, name in gguf_names(config["num_hidden_layers"]).items():
        tensor = checkpoint[source]
        if is_q8 and tensor.ndim == 2 and name not in FLOATS:
            writer.add_tensor(name, quantize(tensor, Q8_0), raw_dtype=Q8_0)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

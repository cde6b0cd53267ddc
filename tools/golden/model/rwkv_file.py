"""RWKV as llama.cpp names and lays it out; its converter reads checkpoints, and this is none."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from tools.golden.model.rwkv_weights import Weights
from tools.golden.recipe import RwkvRecipe
from tools.golden.references.logits import F32

NORMS = (("ln1", "attn_norm"), ("ln2", "attn_norm_2"), ("lnx", "time_mix_ln"))
MATRICES = (("r", "receptance"), ("k", "key"), ("v", "value"), ("o", "output"))
RWKV6 = (
    ("mix1", "time_mix_w1"),
    ("mix2", "time_mix_w2"),
    ("dec0", "time_mix_decay"),
    ("dec1", "time_mix_decay_w1"),
    ("dec2", "time_mix_decay_w2"),
    ("u", "time_mix_first"),
)
RWKV7 = (
    ("g1", "time_mix_g1"),
    ("g2", "time_mix_g2"),
    ("kk", "time_mix_k_k"),
    ("ka", "time_mix_k_a"),
)


def add_metadata(writer: gguf.GGUFWriter, recipe: RwkvRecipe) -> None:
    dims = recipe.dims
    writer.add_name(f"golden-{recipe.name}")
    writer.add_context_length(1048576)
    writer.add_embedding_length(dims["n_embd"])
    writer.add_block_count(dims["n_layer"])
    writer.add_layer_norm_eps(recipe.epsilon)
    writer.add_wkv_head_size(dims["head_size"])
    writer.add_feed_forward_length(dims["n_ff"])
    writer.add_head_count(0)
    if recipe.name == "rwkv6":
        writer.add_rescale_every_n_layers(dims["rescale_every"])
        writer.add_time_mix_extra_dim(dims["mix_rank"])
        writer.add_time_decay_extra_dim(dims["decay_rank"])
    else:
        writer.add_decay_lora_rank(dims["decay_rank"])
        writer.add_iclr_lora_rank(dims["iclr_rank"])
        writer.add_value_residual_mix_lora_rank(dims["value_rank"])
        writer.add_gate_lora_rank(dims["gate_rank"])
    writer.add_file_type(0)
    writer.add_quantization_version(2)


def add_vocabulary(writer: gguf.GGUFWriter, tokens: list[bytes]) -> None:
    """Bytes are escaped as in RWKV's vocabulary files; <s> is a control token."""
    escaped = [repr(token)[2:-1].encode() for token in tokens[1:]]
    writer.add_tokenizer_model("rwkv")
    writer.add_token_list([tokens[0], *escaped])
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_eot_token_id(tokens.index(b"\n\n"))
    writer.add_chat_template("rwkv-world")


def common_tensors(w: Weights) -> list[tuple[str, F32]]:
    out = [("token_embd.weight", w["emb"])]
    for ours, name in (("ln0", "token_embd_norm"), ("lnf", "output_norm")):
        out += [(f"{name}.weight", w[ours]), (f"{name}.bias", w[f"{ours}_b"])]
    return [*out, ("output.weight", w["head"])]


def layer_tensors(recipe: RwkvRecipe, w: Weights, i: int) -> list[tuple[str, F32]]:
    p, n = f"{i}.", recipe.dims["n_embd"]
    out = []
    for ours, name in NORMS:
        out += [(f"{name}.weight", w[p + ours]), (f"{name}.bias", w[f"{p}{ours}_b"])]
    out += [(f"time_mix_{name}.weight", w[p + ours]) for ours, name in MATRICES]
    out.append(("channel_mix_key.weight", w[p + "cm_k"]))
    out.append(("channel_mix_value.weight", w[p + "cm_v"]))
    out.append(("channel_mix_lerp_k.weight", w[p + "cm_xk"].reshape(1, 1, n)))
    if recipe.name == "rwkv6":
        fused = np.stack([w[f"{p}x_{name}"] for name in "wkvrg"]).reshape(5, 1, 1, n)
        out.append(("time_mix_gate.weight", w[p + "g"]))
        out.append(("time_mix_lerp_x.weight", w[p + "x"].reshape(1, 1, n)))
        out.append(("time_mix_lerp_fused.weight", fused))
        out += [(f"{name}.weight", w[p + ours]) for ours, name in RWKV6]
        out.append(("channel_mix_lerp_r.weight", w[p + "cm_xr"].reshape(1, 1, n)))
        return [*out, ("channel_mix_receptance.weight", w[p + "cm_r"])]
    fused = np.stack([w[f"{p}x_{name}"] for name in "rwkvag"]).reshape(6, 1, 1, n)
    out.append(("time_mix_lerp_fused.weight", fused))
    for name in "wav":
        # The first layer's v is stored too, and never used.
        source = "a" if name == "v" and i == 0 else name
        out += [(f"time_mix_{name}{k}.weight", w[f"{p}{source}{k}"]) for k in "012"]
    out += [(f"{name}.weight", w[p + ours]) for ours, name in RWKV7]
    return [*out, ("time_mix_r_k.weight", w[p + "rk"].reshape(-1))]


def write(path: Path, recipe: RwkvRecipe, weights: Weights, tokens: list[bytes]) -> None:
    """Write a float32 GGUF file."""
    writer = gguf.GGUFWriter(path, recipe.name)
    add_metadata(writer, recipe)
    add_vocabulary(writer, tokens)
    tensors = common_tensors(weights)
    for i in range(recipe.dims["n_layer"]):
        tensors += [(f"blk.{i}.{k}", values) for k, values in layer_tensors(recipe, weights, i)]
    for name, values in tensors:
        writer.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

"""From trained weights and a tokenizer to a GGUF file of architecture qwen35."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tools.demo.config import DemoConfig
from tools.demo.vocab import CHAT_TEMPLATE, END, SPECIALS, START, known_tokenizer

if TYPE_CHECKING:
    from tools.demo.model import DemoModel

# PyTorch attributes whose tensors are called otherwise in the file.
_RENAMED = {"ssm_dt_bias": "ssm_dt.bias", "a_log": "ssm_a"}


def _file_name(name: str, c: DemoConfig) -> str:
    """blk.0.ssm_dt_bias -> blk.0.ssm_dt.bias"""
    block, _, leaf = name.replace("predictor.", f"blk.{c.n_layers}.").rpartition(".")
    leaf = _RENAMED.get(leaf, leaf.replace("nextn_", "nextn.") + ".weight")
    return f"{block}.{leaf}" if block else leaf


def tensors_of(model: DemoModel) -> dict[str, NDArray[np.float32]]:
    """Every tensor of the file by its name there, in float32."""
    tensors = {}
    for name, value in model.state_dict().items():
        array = value.detach().cpu().float().numpy()
        if name.endswith("a_log"):
            array = -np.exp(array)
        tensors[_file_name(name, model.c)] = np.ascontiguousarray(array, np.float32)
    return tensors


def write_gguf(
    path: Path, model: DemoModel, tokenizer_json: str, *, quantised: bool = True
) -> None:
    """Write the model; matrices as Q8_0, or everything as F32."""
    writer = gguf.GGUFWriter(path, "qwen35")
    _write_hparams(writer, model.c, quantised)
    _write_vocab(writer, json.loads(tokenizer_json), model.c.n_vocab)
    q8_0 = gguf.GGMLQuantizationType.Q8_0
    for name, array in tensors_of(model).items():
        is_matrix = array.ndim == 2 and "conv1d" not in name
        if quantised and is_matrix:
            writer.add_tensor(name, gguf.quants.quantize(array, q8_0), raw_dtype=q8_0)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_hparams(writer: gguf.GGUFWriter, c: DemoConfig, quantised: bool) -> None:
    file_type = gguf.LlamaFileType.MOSTLY_Q8_0 if quantised else gguf.LlamaFileType.ALL_F32
    writer.add_type("model")
    writer.add_name("slotmux-demo")
    writer.add_license("apache-2.0")
    writer.add_description("slotmux's own demo model: small, hybrid, trained on made-up dialogues")
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(c.n_layers + 1)
    writer.add_context_length(c.n_ctx)
    writer.add_embedding_length(c.n_embd)
    writer.add_feed_forward_length(c.n_ff)
    writer.add_head_count(c.n_head)
    writer.add_head_count_kv(c.n_head_kv)
    writer.add_key_length(c.head_dim)
    writer.add_value_length(c.head_dim)
    writer.add_layer_norm_rms_eps(c.eps)
    writer.add_rope_freq_base(c.rope_base)
    writer.add_rope_dimension_count(c.n_rot)
    writer.add_rope_dimension_sections(c.rope_sections)
    writer.add_array(
        "qwen35.attention.recurrent_layers", [c.is_recurrent(i) for i in range(c.n_layers + 1)]
    )
    writer.add_uint32("qwen35.full_attention_interval", c.attention_interval)
    writer.add_uint32("qwen35.nextn_predict_layers", 1)
    writer.add_ssm_conv_kernel(c.n_taps)
    writer.add_ssm_state_size(c.delta_dim)
    writer.add_ssm_group_count(c.n_delta_heads)
    writer.add_ssm_time_step_rank(c.n_delta_heads)
    writer.add_ssm_inner_size(c.delta_width)


def _write_vocab(writer: gguf.GGUFWriter, tokenizer: dict[str, dict], n_vocab: int) -> None:
    ids = tokenizer["model"]["vocab"]
    tokens = sorted(ids, key=ids.__getitem__)
    n_used = len(tokens)
    assert n_used <= n_vocab
    control, normal, unused = (
        int(t) for t in (gguf.TokenType.CONTROL, gguf.TokenType.NORMAL, gguf.TokenType.UNUSED)
    )
    types = [control if token in SPECIALS else normal for token in tokens]
    tokens += [f"<|unused{i}|>" for i in range(n_used, n_vocab)]
    types += [unused] * (n_vocab - n_used)
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen35")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(ids[START])
    writer.add_eos_token_id(ids[END])
    writer.add_pad_token_id(ids[START])
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a file written by ``write_gguf``."""
    fields = gguf.GGUFReader(path).fields
    types = fields["tokenizer.ggml.token_type"].contents()
    tokens = fields["tokenizer.ggml.tokens"].contents()
    used = [t for t, kind in zip(tokens, types, strict=True) if kind != gguf.TokenType.UNUSED]
    return known_tokenizer(used, fields["tokenizer.ggml.merges"].contents())


def read_weights(path: Path, model: DemoModel) -> None:
    """Load the weights of a file written by ``write_gguf`` into ``model``."""
    import torch

    found = {
        t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors
    }
    names = {_file_name(name, model.c): name for name in model.state_dict()}
    state = {names[name]: torch.from_numpy(np.array(array)) for name, array in found.items()}
    for name in state:
        if name.endswith("a_log"):
            state[name] = (-state[name]).log()
    model.load_state_dict(state)

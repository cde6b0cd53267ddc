"""Files of published models' shapes without their weights: a header, and nothing behind it.

Tensors are written down family by family, not asked of the lowering: the number of parameters has
to come out as the publisher counts them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gguf import GGMLQuantizationType, GGUFValueType

from tests.runtime.gguf.writer import File, Tensor, array, pair

Shape = tuple[str, ...]
Part = Mapping[str, Shape]  # tensors of a block by their sizes: E, F, D, Q, K, H, G; A2 is 2 * A

ATTENTION: Part = {
    "attn_q.weight": ("E", "Q"),
    "attn_k.weight": ("E", "K"),
    "attn_v.weight": ("E", "K"),
    "attn_output.weight": ("Q", "E"),
}
FUSED: Part = {"attn_qkv.weight": ("E", "QKV"), "attn_output.weight": ("Q", "E")}
QKV_BIASES: Part = {f"attn_{n}.bias": (size,) for n, size in zip("qkv", "QKK", strict=True)}
SWIGLU: Part = {
    "ffn_gate.weight": ("E", "F"),
    "ffn_up.weight": ("E", "F"),
    "ffn_down.weight": ("F", "E"),
}
FUSED_SWIGLU: Part = {"ffn_up.weight": ("E", "F2"), "ffn_down.weight": ("F", "E")}
PLAIN: Part = {"ffn_up.weight": ("E", "F"), "ffn_down.weight": ("F", "E")}
PLAIN_BIASES: Part = {"attn_output.bias": ("E",), "ffn_up.bias": ("F",), "ffn_down.bias": ("E",)}
HEAD_NORMS: Part = {"attn_q_norm.weight": ("D",), "attn_k_norm.weight": ("D",)}
OWN_HEAD_NORMS: Part = {"attn_q_norm.weight": ("D", "H"), "attn_k_norm.weight": ("D", "G")}
WIDE_NORMS: Part = {"attn_q_norm.weight": ("Q",), "attn_k_norm.weight": ("K",)}


def norms(*names: str, has_bias: bool = False) -> Part:
    """Norms of the width of the residual stream."""
    kinds = ("weight", "bias") if has_bias else ("weight",)
    return {f"{name}.{kind}": ("E",) for name in names for kind in kinds}


PRE = norms("attn_norm", "ffn_norm")
POST = norms("post_attention_norm", "post_ffw_norm")
BIASED = norms("attn_norm", "ffn_norm", has_bias=True)
SUB_NORMS: Part = {"attn_sub_norm.weight": ("Q",), "ffn_sub_norm.weight": ("F",)}

BLOCKS: Mapping[str, tuple[Part, ...]] = {
    "olmo2": (ATTENTION, WIDE_NORMS, SWIGLU, POST),
    "gemma2": (ATTENTION, SWIGLU, PRE, POST),
    "glm4": (ATTENTION, QKV_BIASES, FUSED_SWIGLU, PRE, POST),
    "mistral3": (ATTENTION, SWIGLU, PRE),
    "seed_oss": (ATTENTION, QKV_BIASES, SWIGLU, norms("attn_norm", "post_attention_norm")),
    "hunyuan-dense": (ATTENTION, HEAD_NORMS, SWIGLU, PRE),
    "exaone4": (ATTENTION, HEAD_NORMS, SWIGLU, POST),
    "command-r": (ATTENTION, SWIGLU, norms("attn_norm")),
    "cohere2": (ATTENTION, SWIGLU, norms("attn_norm")),
    "starcoder2": (ATTENTION, QKV_BIASES, PLAIN, PLAIN_BIASES, BIASED),
    "stablelm": (ATTENTION, QKV_BIASES, SWIGLU, BIASED),
    "internlm2": (ATTENTION, SWIGLU, PRE),
    "minicpm": (ATTENTION, SWIGLU, PRE),
    "arcee": (ATTENTION, PLAIN, PRE),
    "apertus": (ATTENTION, HEAD_NORMS, PLAIN, PRE),
    "qwen2vl": (ATTENTION, QKV_BIASES, SWIGLU, PRE),
    "qwen3vl": (ATTENTION, HEAD_NORMS, SWIGLU, PRE),
    "gptneox": (FUSED, {"attn_qkv.bias": ("QKV",)}, PLAIN, PLAIN_BIASES, BIASED),
    "falcon": (FUSED, PLAIN, norms("attn_norm", has_bias=True)),
    "gpt2": (FUSED, {"attn_qkv.bias": ("QKV",)}, PLAIN, PLAIN_BIASES, BIASED),
    "bitnet": (ATTENTION, SWIGLU, PRE, SUB_NORMS),
    "ernie4_5": (ATTENTION, SWIGLU, PRE),
    "nemotron": (ATTENTION, PLAIN, BIASED),
}
LAYER_NORMED = ("command-r", "cohere2", "starcoder2", "stablelm", "gptneox", "falcon", "gpt2")
LAYER_NORMED += ("nemotron",)
BIASED_OUTPUT_NORM = ("starcoder2", "stablelm", "gptneox", "falcon", "gpt2", "nemotron")


@dataclass(frozen=True, slots=True)
class Published:
    """A model as its config.json says; ``n_params``: as its page says, in thousand millions."""

    name: str
    arch: str
    n_params: float
    n_layers: int
    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int
    n_vocab: int
    head_dim: int = 0  # n_embd / n_head
    is_tied: bool = False
    parts: tuple[Part, ...] = ()  # instead of the architecture's
    keys: Mapping[str, float] = field(default_factory=dict)

    @property
    def d(self) -> int:
        """Width of a head."""
        return self.head_dim or self.n_embd // self.n_head

    def tensors(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        """Names and shapes of all."""
        q, k = self.n_head * self.d, self.n_head_kv * self.d
        sizes = {"E": self.n_embd, "F": self.n_ff, "D": self.d, "Q": q, "K": k, "H": self.n_head,
                 "G": self.n_head_kv, "F2": 2 * self.n_ff, "QKV": q + 2 * k}  # fmt: skip
        yield "token_embd.weight", (self.n_embd, self.n_vocab)
        if self.arch == "gpt2":
            yield "position_embd.weight", (self.n_embd, 1024)
        for layer in range(self.n_layers):
            for part in self.parts or BLOCKS[self.arch]:
                for name, shape in part.items():
                    yield f"blk.{layer}.{name}", tuple(sizes[size] for size in shape)
        yield "output_norm.weight", (self.n_embd,)
        if self.arch in BIASED_OUTPUT_NORM:
            yield "output_norm.bias", (self.n_embd,)
        if not self.is_tied:
            yield "output.weight", (self.n_embd, self.n_vocab)

    def pairs(self) -> Iterable[bytes]:
        """Keys and their values."""
        kinds = GGUFValueType
        yield pair("general.architecture", kinds.STRING, self.arch)
        counts = {"block_count": self.n_layers, "context_length": 1024 if self.arch == "gpt2"
                  else 131072, "embedding_length": self.n_embd, "feed_forward_length": self.n_ff,
                  "attention.head_count": self.n_head, "attention.head_count_kv": self.n_head_kv,
                  "attention.key_length": self.d, "attention.value_length": self.d}  # fmt: skip
        for key, value in counts.items():
            yield pair(f"{self.arch}.{key}", kinds.UINT32, value)
        norm = "layer_norm" if self.arch in LAYER_NORMED else "layer_norm_rms"
        yield pair(f"{self.arch}.attention.{norm}_epsilon", kinds.FLOAT32, 1e-5)
        for key, value in self.keys.items():
            kind = kinds.UINT32 if isinstance(value, int) else kinds.FLOAT32
            yield pair(f"{self.arch}.{key}", kind, value)
        if self.arch == "apertus":
            for key, value in (("alpha_n", 0.5), ("alpha_p", 0.5), ("beta", 0.5), ("eps", -1e-6)):
                yield array(f"xielu.{key}", kinds.FLOAT32, [value] * self.n_layers)


def write(model: Published, path: Path) -> int:
    """The file: matrices as Q8_0, vectors as float32, all of them holes. Returns how many
    parameters it has."""
    tensors, end, n_params = [], 0, 0
    for name, shape in model.tensors():
        n = math.prod(shape)
        is_matrix = len(shape) > 1 and "norm" not in name
        kind = GGMLQuantizationType.Q8_0 if is_matrix else GGMLQuantizationType.F32
        tensors.append(Tensor(name, shape, kind, end))
        end += -(-(n * 34 // 32 if is_matrix else 4 * n) // 32) * 32
        n_params += n
    packed = File(pairs=list(model.pairs()), tensors=tensors).pack()
    with path.open("wb") as out:
        out.write(packed)
        out.truncate(len(packed) + end)
    return n_params

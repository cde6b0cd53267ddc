"""Encoders of published shapes, as published.py has models that generate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gguf import GGUFValueType

from tests.runtime.gguf.writer import pair
from tests.server.loading.published import (
    ATTENTION,
    FUSED,
    HEAD_NORMS,
    PLAIN,
    PLAIN_BIASES,
    POST,
    PRE,
    QKV_BIASES,
    SWIGLU,
    Part,
    Published,
    norms,
)

FUSED_BIAS: Part = {"attn_qkv.bias": ("QKV",)}
AFTER = norms("attn_output_norm", "layer_output_norm", has_bias=True)
GEGLU: Part = {"ffn_up.weight": ("E", "F2"), "ffn_down.weight": ("F", "E")}
EXPERTS: Part = {
    "ffn_gate_inp.weight": ("E", "X"),
    "ffn_up_exps.weight": ("E", "F", "X"),
    "ffn_down_exps.weight": ("F", "E", "X"),
}
BERT = (ATTENTION, QKV_BIASES, PLAIN, PLAIN_BIASES, AFTER)
DOWN_BIASES: Part = {"attn_output.bias": ("E",), "ffn_down.bias": ("E",)}
NOMIC_MOE = (FUSED, FUSED_BIAS, {"attn_output.bias": ("E",)}, AFTER)

BLOCKS: Mapping[str, tuple[Part, ...]] = {
    "bert": BERT,
    "nomic-bert": (FUSED, SWIGLU, AFTER),
    "nomic-bert-moe": (*NOMIC_MOE, PLAIN, {"ffn_up.bias": ("F",), "ffn_down.bias": ("E",)}),
    "modern-bert": (FUSED, GEGLU, norms("attn_norm", "ffn_norm")),
    "eurobert": (ATTENTION, SWIGLU, PRE),
    "jina-bert-v2": (ATTENTION, QKV_BIASES, SWIGLU, DOWN_BIASES, AFTER),
    "jina-bert-v3": (FUSED, FUSED_BIAS, PLAIN, PLAIN_BIASES, AFTER),
    "gemma-embedding": (ATTENTION, HEAD_NORMS, SWIGLU, PRE, POST),
}
EMBEDDING_NORM = norms("token_embd_norm", has_bias=True)
TYPES: Part = {"token_types.weight": ("E", "T")}
POSITIONS: Part = {"position_embd.weight": ("E", "C")}
OUTPUT_NORM = norms("output_norm")
OUTER: Mapping[str, tuple[Part, ...]] = {
    "bert": (EMBEDDING_NORM, TYPES, POSITIONS),
    "nomic-bert": (EMBEDDING_NORM, TYPES),
    "nomic-bert-moe": (EMBEDDING_NORM, TYPES),
    "modern-bert": (norms("token_embd_norm"), OUTPUT_NORM),
    "eurobert": (OUTPUT_NORM,),
    "jina-bert-v2": (EMBEDDING_NORM, TYPES),
    "jina-bert-v3": (EMBEDDING_NORM, TYPES),
    "gemma-embedding": (
        OUTPUT_NORM,
        {"dense_2.weight": ("E", "M"), "dense_3.weight": ("M", "E")},
    ),
}
RMS_NORMED = ("eurobert", "gemma-embedding")


@dataclass(frozen=True, slots=True)
class PublishedEncoder(Published):
    """``n_ctx``: tokens of its longest text; ``n_types``: parts of a text that it tells apart."""

    n_ctx: int = 512
    n_types: int = 2
    n_expert: int = 0  # of every other layer

    @property
    def sizes(self) -> dict[str, int]:
        """By the letters of shapes."""
        q, k = self.n_head * self.d, self.n_head_kv * self.d
        return {"E": self.n_embd, "F": self.n_ff, "F2": 2 * self.n_ff, "D": self.d, "Q": q, "K": k,
                "QKV": q + 2 * k, "C": self.n_ctx, "T": self.n_types, "X": self.n_expert,
                "M": 4 * self.n_embd}  # fmt: skip

    def tensors(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        """Names and shapes of all."""
        sizes = self.sizes
        yield "token_embd.weight", (self.n_embd, self.n_vocab)
        for part in OUTER[self.arch]:
            for name, shape in part.items():
                yield name, tuple(sizes[size] for size in shape)
        for layer in range(self.n_layers):
            parts = BLOCKS[self.arch]
            if self.n_expert and layer % 2 == 1:
                parts = (*NOMIC_MOE, EXPERTS)
            for part in parts:
                for name, shape in part.items():
                    if (self.arch, layer, name) != ("modern-bert", 0, "attn_norm.weight"):
                        yield f"blk.{layer}.{name}", tuple(sizes[size] for size in shape)

    def pairs(self) -> Iterable[bytes]:
        """Keys and their values."""
        kinds = GGUFValueType
        yield pair("general.architecture", kinds.STRING, self.arch)
        counts = {"block_count": self.n_layers, "context_length": self.n_ctx,
                  "embedding_length": self.n_embd, "feed_forward_length": self.n_ff,
                  "attention.head_count": self.n_head, "attention.head_count_kv": self.n_head_kv,
                  "attention.key_length": self.d, "attention.value_length": self.d,
                  "pooling_type": 1}  # fmt: skip
        if self.n_expert:
            counts |= {"expert_count": self.n_expert, "expert_used_count": 2,
                       "moe_every_n_layers": 2}  # fmt: skip
        for key, value in counts.items():
            yield pair(f"{self.arch}.{key}", kinds.UINT32, value)
        norm = "layer_norm_rms" if self.arch in RMS_NORMED else "layer_norm"
        yield pair(f"{self.arch}.attention.{norm}_epsilon", kinds.FLOAT32, 1e-5)
        yield pair("tokenizer.ggml.token_type_count", kinds.UINT32, self.n_types)
        for key, value in self.keys.items():
            kind = kinds.UINT32 if isinstance(value, int) else kinds.FLOAT32
            yield pair(f"{self.arch}.{key}", kind, value)

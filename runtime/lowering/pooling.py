"""One vector of each text of a step, from its tokens' rows (kernels/ops/dense/pool.py)."""

from __future__ import annotations

from dataclasses import dataclass

from slotmux.kernels.operands import Rows
from slotmux.kernels.ops.dense.pool import FIRST, LAST, MEAN, Pool
from slotmux.runtime.gguf import GGUFFile
from slotmux.runtime.lowering.buffers import step_count
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.elementwise import in_place
from slotmux.runtime.lowering.layer_norm import layer_norm
from slotmux.runtime.lowering.vectors import scores_of_rows
from slotmux.runtime.pooling import Pooling


@dataclass(frozen=True, slots=True)
class RankHead:
    """What a model's scores are made of: rows pooled so, and this activation in the head."""

    pooling: Pooling = Pooling.CLS
    activation: str = "tanh"


def rank_head(file: GGUFFile, default: RankHead) -> RankHead:
    """What the file says."""
    key = f"{file.architecture}.classifier.pooling_type"
    pooling = file.metadata.get_u32(key, int(default.pooling), 1, 3)
    return RankHead(Pooling(pooling), default.activation)


_KINDS = {Pooling.MEAN: MEAN, Pooling.CLS: FIRST, Pooling.LAST: LAST}


def pool(b: Builder, x: Rows, pooling: Pooling, n_texts: int) -> Rows:
    """Rows [n_texts, x.width]: a vector of each sequence of the step."""
    out = b.buffers.rows("pooled", x.width, step_count(b.step, "n_seqs", n_texts))
    b.append(Pool(x=x, kind=_KINDS[pooling], out=out))
    return out


def rank(b: Builder, pooled: Rows, eps: float, activation: str) -> Rows:
    """Scores [n_texts, labels] by the model's own head: cls.output act(cls x + bias) + bias, as far
    as the file has it."""
    w, h = b.weights, pooled
    if w.has("cls.weight"):
        h = b.linear(h, w.matrix("cls.weight", h.width, h.width), "cls")
        if w.has("cls.bias"):
            b.add_bias(h, w.vector("cls.bias", h.width))
        if activation == "tanh":
            in_place(b, "tanh", h)
        else:
            h = b.glu(activation, h, None, "cls_act")
        if w.has("cls.norm.weight"):
            h = layer_norm(b, h, "cls.norm", eps, "cls_norm")
    return scores_of_rows(b, h)


def dense_modules(b: Builder, pooled: Rows) -> Rows:
    """Matrices behind the pooling (sentence-transformers' modules), as far as the file has them."""
    for name in ("dense_2", "dense_3"):
        tensor = b.weights.file.tensors.get(f"{name}.weight")
        if tensor is not None:
            n_out = tensor.shape[-1]
            weight = b.weights.matrix(f"{name}.weight", pooled.width, n_out)
            pooled = b.linear(pooled, weight, name)
    return pooled

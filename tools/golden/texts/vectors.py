"""Vectors of texts by both implementations, pooled and not normalised."""

from __future__ import annotations

import ctypes as C
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from tools.golden.references.llama_cpp import Library, LlamaContext, LlamaError, LlamaModel
from tools.golden.references.logits import F32

FUNCTIONS = {
    "llama_get_embeddings_seq": (C.POINTER(C.c_float), (C.c_void_p, C.c_int32)),
    "llama_encode": (C.c_int32, (C.c_void_p, C.c_void_p)),
    "llama_model_n_cls_out": (C.c_uint32, (C.c_void_p,)),
    "llama_model_n_embd_out": (C.c_int32, (C.c_void_p,)),
    "llama_pooling_type": (C.c_int, (C.c_void_p,)),
}
# As files number them.
POOLINGS = {"mean": 1, "cls": 2, "lasttoken": 3, "rank": 4}


def of_transformers(
    model: PreTrainedModel,
    texts: Sequence[Sequence[int]],
    pooling: str,
    *,
    sees_both_sides: bool = False,
) -> list[F32]:
    """Of each text: the mean of the last layer's rows, one of them, or a head's logits."""
    found = []
    with torch.no_grad():
        for text in texts:
            n = len(text)
            # A mask of four dimensions is taken as it is.
            mask = {"attention_mask": torch.zeros(1, 1, n, n)} if sees_both_sides else {}
            out = model(input_ids=torch.tensor([list(text)]), **mask)
            if pooling == "rank":
                found.append(out.logits[0])
                continue
            rows = out.last_hidden_state[0]
            found.append({"mean": rows.mean(0), "cls": rows[0], "lasttoken": rows[-1]}[pooling])
    return [np.asarray(v.float().numpy(), np.float32) for v in found]


class EmbeddingContext(LlamaContext):
    """A context that gives vectors."""

    embeddings = True


def of_llama(
    library: Library, path: Path, texts: Sequence[Sequence[int]], pooling: str
) -> list[F32]:
    """The same by llama.cpp."""
    library.declare(FUNCTIONS)
    kind = POOLINGS[pooling]
    with (
        LlamaModel(library, path) as model,
        EmbeddingContext(model, pooling=kind) as context,
    ):
        n = model.n_embd
        if pooling == "rank":
            n = int(model.library.c.llama_model_n_cls_out(model.handle))
        return [_encode(context, text, n) for text in texts]


def _encode(context: LlamaContext, text: Sequence[int], n: int) -> F32:
    c = context.c
    batch = c.llama_batch_init(len(text), 0, 1)
    batch.n_tokens = len(text)
    for i, token in enumerate(text):
        batch.token[i], batch.pos[i], batch.logits[i] = token, i, 1
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
    memory = c.llama_get_memory(context.handle)
    if memory:
        c.llama_memory_clear(memory, True)
    code = c.llama_decode(context.handle, batch)
    c.llama_batch_free(batch)
    pointer = c.llama_get_embeddings_seq(context.handle, 0)
    if code or not pointer:
        raise LlamaError(f"llama_decode returned {code}: {context.model.library.said()}")
    return np.ctypeslib.as_array(pointer, shape=(n,)).copy()

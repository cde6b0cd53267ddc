"""Draft logits of a block for multi-token prediction, as llama.cpp's own speculation drives it."""

from __future__ import annotations

import ctypes as C
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tools.golden.references.llama_cpp import Library, LlamaContext, LlamaError, LlamaModel
from tools.golden.references.logits import F32

N_DRAFT = 4
DECODE = 1  # LLAMA_PROCESS_TYPE_DECODE


class Embd(C.Structure):
    _fields_ = (
        ("data", C.POINTER(C.c_float)),
        ("n_rows", C.c_size_t),
        ("n_embd", C.c_size_t),
    )


P = C.c_void_p
# C++ functions of the library's extension header.
SET_NEXTN = "_Z26llama_set_embeddings_nextnP13llama_contextbb"
GET_NEXTN = "_Z26llama_get_embeddings_nextnP13llama_context"
GET_NEXTN_ITH = "_Z30llama_get_embeddings_nextn_ithP13llama_contexti"
FUNCTIONS = {
    "llama_batch_ext_init": (P, (P,)),
    "llama_batch_ext_free": (None, (P,)),
    "llama_batch_ext_clear": (None, (P,)),
    "llama_batch_ext_add_token": (C.c_int32, (P, C.c_int32, C.c_int32)),
    "llama_batch_ext_set_pos": (C.c_bool, (P, C.c_int32, C.POINTER(C.c_int32))),
    "llama_batch_ext_set_embd_token": (C.c_bool, (P, C.c_int32, Embd)),
    "llama_batch_ext_set_output_logits": (C.c_bool, (P, C.c_int32, C.c_bool)),
    "llama_process": (C.c_int32, (P, C.c_int, P)),
    SET_NEXTN: (None, (P, C.c_bool, C.c_bool)),
    GET_NEXTN: (C.POINTER(C.c_float), (P,)),
    GET_NEXTN_ITH: (C.POINTER(C.c_float), (P, C.c_int32)),
}


@dataclass(frozen=True, slots=True)
class Drafts:
    """Of one prompt; rows are its positions.

    ``trunk`` and ``hidden`` are float32 [tokens, n_embd], ``logits`` [tokens, vocabulary]. The
    chain of drafts that follows has ``ids`` [1 + N_DRAFT] and ``chain`` [N_DRAFT, vocabulary].
    """

    trunk: F32
    logits: F32
    hidden: F32
    ids: list[int]
    chain: F32


class DraftHead:
    """The block's context beside the trunk's; a batch of its own kind."""

    def __init__(self, context: LlamaContext) -> None:
        self.context, self.c = context, context.c
        self.n_embd = context.model.n_embd
        self.batch = self.c.llama_batch_ext_init(context.handle)
        self.getter = getattr(self.c, GET_NEXTN_ITH)
        set_nextn(context, is_head=True)

    def close(self) -> None:
        self.c.llama_batch_ext_free(self.batch)

    def step(self, tokens: Sequence[int], hidden: F32, first_pos: int) -> tuple[F32, F32]:
        """Logits and hidden states of ``tokens``, each paired with its row of ``hidden``."""
        self.c.llama_batch_ext_clear(self.batch)
        rows = [np.ascontiguousarray(row, np.float32) for row in hidden]
        for i, (token, row) in enumerate(zip(tokens, rows, strict=True)):
            added = self.c.llama_batch_ext_add_token(self.batch, 0, token)
            assert added == i, added
            pointer = row.ctypes.data_as(C.POINTER(C.c_float))
            ok = (
                self.c.llama_batch_ext_set_pos(self.batch, i, (C.c_int32 * 1)(first_pos + i))
                and self.c.llama_batch_ext_set_embd_token(
                    self.batch, i, Embd(pointer, 1, self.n_embd)
                )
                and self.c.llama_batch_ext_set_output_logits(self.batch, i, True)
            )
            assert ok, self.context.model.library.said()
        code = self.c.llama_process(self.context.handle, DECODE, self.batch)
        if code:
            raise LlamaError(f"llama_process returned {code}: {self.context.model.library.said()}")
        n = range(len(tokens))
        return np.stack([self.context.logits_at(i) for i in n]), np.stack(
            [floats(self.getter(self.context.handle, i), (self.n_embd,)) for i in n]
        )


def floats(pointer: C._Pointer[C.c_float], shape: tuple[int, ...]) -> F32:
    return np.ctypeslib.as_array(pointer, shape=shape).copy()


def set_nextn(context: LlamaContext, *, is_head: bool) -> None:
    getattr(context.c, SET_NEXTN)(context.handle, True, is_head)


def drafts_of(model: LlamaModel, prompt: Sequence[int]) -> Drafts:
    with LlamaContext(model) as trunk:
        set_nextn(trunk, is_head=False)
        first = trunk.decode(prompt)
        pointer = getattr(trunk.c, GET_NEXTN)(trunk.handle)
        states = floats(pointer, (len(prompt), model.n_embd))
        with LlamaContext(model, n_batch=512, mtp_of=trunk) as context:
            head = DraftHead(context)
            # A token goes with the state before it; zeros stand before the first.
            before = np.concatenate([np.zeros((1, model.n_embd), np.float32), states[:-1]])
            logits, hidden = head.step(prompt, before, 0)
            ids, state, chain = [int(first[-1].argmax())], states[-1:], []
            for i in range(N_DRAFT):
                drafted, state = head.step(ids[-1:], state, len(prompt) + i)
                chain.append(drafted[0])
                ids.append(int(drafted[0].argmax()))
            head.close()
    return Drafts(states, logits, hidden, ids, np.stack(chain))


def drafts(library: Library, path: Path, prompts: Sequence[Sequence[int]]) -> list[Drafts]:
    """What the block of ``path`` drafts, for each prompt."""
    library.declare(FUNCTIONS)
    with LlamaModel(library, path, load_mtp=True) as model:
        return [drafts_of(model, prompt) for prompt in prompts]

"""llama.cpp's library through ctypes, as much of it as references need: CPU, float32, one sequence.

The structs are those of one version, which `tools.golden.llama_source` names; what the library
says its defaults are is checked, so that another version fails here and not in the numbers.
"""

from __future__ import annotations

import ctypes as C
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from tools.golden.references.logits import F32

LIBRARIES = ("libggml-base.so", "libggml-cpu.so", "libggml.so", "libllama.so")
N_CTX = 512


class LlamaError(RuntimeError):
    """llama.cpp refused; the message is the end of what it logged."""


class ModelParams(C.Structure):
    _fields_ = (
        ("devices", C.c_void_p),
        ("tensor_buft_overrides", C.c_void_p),
        ("n_gpu_layers", C.c_int32),
        ("split_mode", C.c_int),
        ("load_mode", C.c_int),
        ("lazy_mode", C.c_int),
        ("main_gpu", C.c_int32),
        ("tensor_split", C.c_void_p),
        ("progress_callback", C.c_void_p),
        ("progress_callback_user_data", C.c_void_p),
        ("kv_overrides", C.c_void_p),
        ("vocab_only", C.c_bool),
        ("check_tensors", C.c_bool),
        ("use_extra_bufts", C.c_bool),
        ("no_host", C.c_bool),
        ("no_alloc", C.c_bool),
        ("load_mtp", C.c_bool),
    )


class ContextParams(C.Structure):
    _fields_ = (
        ("n_ctx", C.c_uint32),
        ("n_batch", C.c_uint32),
        ("n_ubatch", C.c_uint32),
        ("n_seq_max", C.c_uint32),
        ("n_rs_seq", C.c_uint32),
        ("n_outputs_max", C.c_uint32),
        ("n_outputs_max_per_seq", C.c_uint32),
        ("n_threads", C.c_int32),
        ("n_threads_batch", C.c_int32),
        ("ctx_type", C.c_int),
        ("rope_scaling_type", C.c_int),
        ("pooling_type", C.c_int),
        ("attention_type", C.c_int),
        ("flash_attn_type", C.c_int),
        ("rope_freq_base", C.c_float),
        ("rope_freq_scale", C.c_float),
        ("yarn_ext_factor", C.c_float),
        ("yarn_attn_factor", C.c_float),
        ("yarn_beta_fast", C.c_float),
        ("yarn_beta_slow", C.c_float),
        ("yarn_orig_ctx", C.c_uint32),
        ("defrag_thold", C.c_float),
        ("cb_eval", C.c_void_p),
        ("cb_eval_user_data", C.c_void_p),
        ("type_k", C.c_int),
        ("type_v", C.c_int),
        ("abort_callback", C.c_void_p),
        ("abort_callback_data", C.c_void_p),
        ("embeddings", C.c_bool),
        ("offload_kqv", C.c_bool),
        ("no_perf", C.c_bool),
        ("op_offload", C.c_bool),
        ("swa_full", C.c_bool),
        ("kv_unified", C.c_bool),
        ("samplers", C.c_void_p),
        ("n_samplers", C.c_size_t),
        ("ctx_other", C.c_void_p),
    )


class Batch(C.Structure):
    _fields_ = (
        ("n_tokens", C.c_int32),
        ("token", C.POINTER(C.c_int32)),
        ("embd", C.POINTER(C.c_float)),
        ("pos", C.POINTER(C.c_int32)),
        ("n_seq_id", C.POINTER(C.c_int32)),
        ("seq_id", C.POINTER(C.POINTER(C.c_int32))),
        ("logits", C.POINTER(C.c_int8)),
    )


LogCallback = C.CFUNCTYPE(None, C.c_int, C.c_char_p, C.c_void_p)
# name: (what it returns, what it takes)
FUNCTIONS = {
    "llama_model_default_params": (ModelParams, ()),
    "llama_context_default_params": (ContextParams, ()),
    "llama_model_load_from_file": (C.c_void_p, (C.c_char_p, ModelParams)),
    "llama_model_free": (None, (C.c_void_p,)),
    "llama_init_from_model": (C.c_void_p, (C.c_void_p, ContextParams)),
    "llama_free": (None, (C.c_void_p,)),
    "llama_model_get_vocab": (C.c_void_p, (C.c_void_p,)),
    "llama_model_n_embd": (C.c_int32, (C.c_void_p,)),
    "llama_vocab_n_tokens": (C.c_int32, (C.c_void_p,)),
    "llama_batch_init": (Batch, (C.c_int32, C.c_int32, C.c_int32)),
    "llama_batch_free": (None, (Batch,)),
    "llama_decode": (C.c_int32, (C.c_void_p, Batch)),
    "llama_get_logits_ith": (C.POINTER(C.c_float), (C.c_void_p, C.c_int32)),
    "llama_get_memory": (C.c_void_p, (C.c_void_p,)),
    "llama_memory_clear": (None, (C.c_void_p, C.c_bool)),
    "llama_log_set": (None, (LogCallback, C.c_void_p)),
    "llama_backend_init": (None, ()),
    "llama_tokenize": (
        C.c_int32,
        (C.c_void_p, C.c_char_p, C.c_int32, C.POINTER(C.c_int32), C.c_int32, C.c_bool, C.c_bool),
    ),
    "llama_token_to_piece": (
        C.c_int32,
        (C.c_void_p, C.c_int32, C.c_char_p, C.c_int32, C.c_int32, C.c_bool),
    ),
}


class Library:
    """libllama of a build folder, and what it logged since ``said`` was last read."""

    def __init__(self, binaries: Path) -> None:
        *needed, last = (str(binaries / name) for name in LIBRARIES)
        for path in needed:
            C.CDLL(path, mode=C.RTLD_GLOBAL)
        self.c = C.CDLL(last, mode=C.RTLD_GLOBAL)
        self.declare(FUNCTIONS)
        self._lines: list[str] = []
        self._log = LogCallback(
            lambda _level, text, _data: self._lines.append(text.decode("utf-8", "replace"))
        )
        self.c.llama_log_set(self._log, None)
        self.c.llama_backend_init()
        defaults = self.c.llama_context_default_params()
        found = (defaults.n_ctx, defaults.n_batch, defaults.type_k, defaults.type_v)
        if found != (512, 2048, 1, 1):
            raise LlamaError(f"{last} is of another version: its defaults read as {found}")

    def declare(self, functions: Mapping[str, tuple[object, tuple[object, ...]]]) -> None:
        """Say what functions return and take; without it ctypes cuts pointers to 32 bits."""
        for name, (result, arguments) in functions.items():
            function = getattr(self.c, name)
            function.restype, function.argtypes = result, arguments

    def said(self) -> str:
        """The end of the log, which is then empty."""
        text = "".join(self._lines[-15:])
        self._lines.clear()
        return text

    def require(self, handle: int | None, what: str) -> int:
        """``handle``, unless it is null: then LlamaError."""
        if not handle:
            raise LlamaError(f"llama.cpp cannot {what}: {self.said()}")
        return handle


class LlamaModel:
    """A loaded file, without repacked weights; a context manager."""

    def __init__(
        self, library: Library, path: Path, *, load_mtp: bool = False, vocab_only: bool = False
    ) -> None:
        self.library = library
        c = library.c
        params = c.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = False
        params.load_mtp = load_mtp
        params.vocab_only = vocab_only
        loaded = c.llama_model_load_from_file(str(path).encode(), params)
        self.handle = library.require(loaded, f"load {path.name}")
        self.vocab = c.llama_model_get_vocab(self.handle)
        self.n_vocab = int(c.llama_vocab_n_tokens(self.vocab))
        self.n_embd = int(c.llama_model_n_embd(self.handle))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _a: type[BaseException] | None, _b: BaseException | None, _c: TracebackType | None
    ) -> None:
        self.library.c.llama_model_free(self.handle)

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        data = text.encode()
        n = len(data) + 16
        ids = (C.c_int32 * n)()
        found = self.library.c.llama_tokenize(
            self.vocab, data, len(data), ids, n, add_special, parse_special
        )
        assert found >= 0, found
        return list(ids[:found])

    def piece(self, token: int) -> bytes:
        """The bytes of a token, of control tokens too."""
        buffer = C.create_string_buffer(512)
        n = self.library.c.llama_token_to_piece(self.vocab, token, buffer, 512, 0, True)
        assert n >= 0, n
        return buffer.raw[:n]


class LlamaContext:
    """One sequence's memory: float32 cells, no flash attention, one thread; a context manager."""

    embeddings = False  # vectors of texts are wanted, not logits

    def __init__(
        self,
        model: LlamaModel,
        *,
        n_batch: int = 2048,
        mtp_of: LlamaContext | None = None,
        pooling: int = -1,
    ) -> None:
        self.model, self.c = model, model.library.c
        params = self.c.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = N_CTX, n_batch, n_batch, 1
        params.n_threads = params.n_threads_batch = 1
        params.flash_attn_type = params.type_k = params.type_v = 0
        params.no_perf = True
        params.embeddings, params.pooling_type = self.embeddings, pooling
        if mtp_of is None:
            params.swa_full = True
        else:
            params.ctx_type, params.ctx_other = 1, mtp_of.handle
        made = self.c.llama_init_from_model(model.handle, params)
        self.handle: int = model.library.require(made, "make a context")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _a: type[BaseException] | None, _b: BaseException | None, _c: TracebackType | None
    ) -> None:
        self.c.llama_free(self.handle)

    def clear(self) -> None:
        self.c.llama_memory_clear(self.c.llama_get_memory(self.handle), True)

    def logits_at(self, row: int) -> F32:
        """Of a row of the last batch: float32 [vocabulary], a copy."""
        pointer = self.c.llama_get_logits_ith(self.handle, row)
        return np.ctypeslib.as_array(pointer, shape=(self.model.n_vocab,)).copy()

    def decode(
        self, tokens: Sequence[int], first_pos: int = 0, rows: Sequence[int] | None = None
    ) -> F32:
        """Logits of ``rows`` (all) of ``tokens``, in one batch: float32 [rows, vocabulary]."""
        rows = range(len(tokens)) if rows is None else rows
        batch = self.c.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = token, first_pos + i, i in rows
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        code = self.c.llama_decode(self.handle, batch)
        self.c.llama_batch_free(batch)
        if code:
            raise LlamaError(f"llama_decode returned {code}: {self.model.library.said()}")
        return np.stack([self.logits_at(i) for i in rows])


def logits(
    library: Library, path: Path, prompts: Sequence[Sequence[int]], rows: Sequence[Sequence[int]]
) -> list[F32]:
    """Of each prompt's ``rows``, the prompt in one batch."""
    out = []
    with LlamaModel(library, path) as model, LlamaContext(model) as context:
        for prompt, wanted in zip(prompts, rows, strict=True):
            context.clear()
            out.append(context.decode(prompt, rows=wanted))
    return out


def stepped_logits(
    library: Library, path: Path, prompts: Sequence[Sequence[int]], rows: Sequence[Sequence[int]]
) -> list[F32]:
    """The same, token by token."""
    out = []
    with LlamaModel(library, path) as model, LlamaContext(model) as context:
        for prompt, wanted in zip(prompts, rows, strict=True):
            context.clear()
            steps = [context.decode([token], i) for i, token in enumerate(prompt)]
            out.append(np.concatenate([steps[i] for i in wanted]))
    return out

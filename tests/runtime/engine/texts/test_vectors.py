"""Vectors of texts on a model that generates: from outside, alone or in a crowd, beside answers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFValueType, GGUFWriter

from slotmux.runtime.engine.request import Output, Request, SamplingParams
from slotmux.runtime.engine.thread import Engine, EngineConfig
from slotmux.runtime.model import Model, ModelConfig, load_model
from slotmux.runtime.pooling import Pooling
from tests.encoders import golden_texts

GOLDEN = golden_texts("qwen3-embedding")


class Tokens:
    """The part of a tokenizer that an engine needs."""

    eog_ids = frozenset({2})


class Nothing:
    """A detokenizer for requests that generate nothing worth reading."""

    def push(self, token_id: int) -> str:
        return "x"

    def flush(self) -> str:
        return ""

    def show(self, token_ids) -> None:
        pass


def model_of(path: Path, cache: Path, pooling: Pooling | None = None, **config: int) -> Model:
    sizes = {"n_ctx": 1024, "n_slots": 4, "n_ubatch": 64, "n_threads": 2} | config
    kind = -1 if pooling is None else int(pooling)
    return load_model(path, ModelConfig(**sizes, kernel_cache=cache, pooling=kind))


def vectors(model: Model, texts: Sequence[Sequence[int]], n_generating: int = 0) -> list[bytes]:
    """Of all texts at once, with some who generate beside them."""
    engine = Engine(
        model, Tokens(), EngineConfig(4, 256, max_queue=99, poison_freed=True),
        new_detokenizer=Nothing,
    )  # fmt: skip
    engine.start()
    found: dict[int, np.ndarray] = {}
    ended = threading.Semaphore(0)

    def take(request: Request, outputs: list[Output]) -> None:
        for output in outputs:
            if output.vector is not None:
                found[request.context] = output.vector
            if output.finish_reason is not None:
                ended.release()

    requests = [
        Request([7 + i, 8, 9], SamplingParams(), take, max_tokens=60) for i in range(n_generating)
    ]
    for i, text in enumerate(texts):
        requests.append(
            Request(list(text), SamplingParams(), take, max_tokens=0, wants_vector=True, context=i)
        )
    for request in requests:
        engine.submit(request)
    for _ in requests:
        assert ended.acquire(timeout=60)
    engine.stop(5.0)
    engine._core.memory.check_integrity()
    return [found[i].tobytes() for i in range(len(texts))]


def test_vectors_from_outside(kernel_cache_dir: Path) -> None:
    texts = [text.tokens.tolist() for text in GOLDEN.texts]
    model = model_of(GOLDEN.path, kernel_cache_dir)
    assert model.pooling is Pooling.LAST
    found = vectors(model, texts)
    model.close()
    for got, hf, lcpp in zip(found, GOLDEN.hf, GOLDEN.lcpp, strict=True):
        for want in (hf, lcpp):  # cells are float16
            error = np.abs(np.frombuffer(got, np.float32) - want).max()
            assert error <= 5 * GOLDEN.entry["tolerance"]


@pytest.mark.parametrize("pooling", [Pooling.LAST, Pooling.MEAN, Pooling.CLS, Pooling.NONE])
def test_alone_or_in_company(pooling: Pooling, kernel_cache_dir: Path) -> None:
    longest = GOLDEN.texts[2].tokens.tolist()
    # Some begin alike, so that prefixes are shared where the pooling allows it.
    texts = [longest[:n] for n in (1, 16, 17, 100, 150)] + [longest[:100], longest[50:70]]
    model = model_of(GOLDEN.path, kernel_cache_dir, pooling)
    alone = [vectors(model, [text])[0] for text in texts]
    assert vectors(model, texts, n_generating=2) == alone
    assert vectors(model, texts[::-1]) == alone[::-1]
    model.close()
    small = model_of(GOLDEN.path, kernel_cache_dir, pooling, n_ubatch=16, n_threads=3)
    assert vectors(small, texts, n_generating=1) == alone
    small.close()


def with_rank_head(path: Path, to: Path, rows: np.ndarray) -> None:
    """The same file with a head of two labels, as llama.cpp's converter makes of a reranker."""
    reader = GGUFReader(path)
    writer = GGUFWriter(to, "qwen3")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "qwen3.pooling_type"):
            continue
        kind = field.types[0]
        if kind is GGUFValueType.ARRAY:
            writer.add_array(name, field.contents())
        else:
            writer.add_key_value(name, field.contents(), kind)
    writer.add_uint32("qwen3.pooling_type", int(Pooling.RANK))
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.add_tensor("cls.output.weight", rows)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_head_of_two_labels(kernel_cache_dir: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    head = rng.normal(size=(2, 64)).astype(np.float32)
    with_rank_head(GOLDEN.path, tmp_path / "rank.gguf", head)
    model = model_of(tmp_path / "rank.gguf", kernel_cache_dir)
    assert (model.pooling, model.n_vector) == (Pooling.RANK, 2)
    found = vectors(model, [text.tokens.tolist() for text in GOLDEN.texts])
    model.close()
    for got, hf in zip(found, GOLDEN.hf, strict=True):
        np.testing.assert_allclose(np.frombuffer(got, np.float32), head @ hf, atol=0.2)

"""Long texts: cut where no token can span, in linear time, refused early when too long."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.tokenizer import PromptTooLongError, Tokenizer, chunks
from tests.timing import judge

NAMES = ["llama", "mamba", "gemma3", "jamba", "rwkv6"]
FLOODS = {
    "letters": "a",
    "spaces": " ",
    "marks": "e\u0301\u0302",
    "emoji": "\U0001f468\u200d\U0001f469\u200d",
    "lines": "\n",
    "open": "<",
    "text": "The quick brown fox, 123 times. ",
}


@pytest.fixture(scope="module", params=NAMES)
def tokenizer(request: pytest.FixtureRequest, golden_dir: Path) -> Tokenizer:
    return Tokenizer.from_metadata(open_gguf(golden_dir / request.param / "model.gguf").metadata)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab \n,。1é", max_size=60), st.integers(2, 9))
def test_chunks_are_the_text_in_order(text: str, size: int) -> None:
    for breaks in (chunks.WORD_BREAK, chunks.LINE_BREAK, chunks.SPACE_BREAK):
        pieces = list(chunks.chunks(text, breaks, size))
        assert "".join(pieces) == text
        places = [found.start() for found in breaks.finditer(text)]
        at = 0
        for piece in pieces[:-1]:
            last = max((place for place in places if at < place <= at + size), default=at + size)
            assert at + len(piece) == last
            at = last
        assert len(pieces[-1]) <= size


def test_cut_texts_have_the_tokens_of_the_whole(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "The quick brown fox jumps over the lazy dog.\nIt's 42 and déjà vu。漢字、です\n\n" * 20
    whole = tokenizer.encode(text)
    plain = chunks.chunks
    monkeypatch.setattr(chunks, "chunks", lambda text, breaks: plain(text, breaks, 64))
    assert tokenizer.encode(text) == whole


@pytest.mark.timed
@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_time_grows_with_the_text_only(tokenizer: Tokenizer, flood: str) -> None:
    seconds = []
    for size in (1 << 17, 1 << 19):
        text = flood * (size // len(flood.encode()))
        start = time.process_time()
        ids = tokenizer.encode(text, add_special=False)
        seconds.append(time.process_time() - start)
        assert tokenizer.decode(ids, skip_special=False).strip() == text.strip()
    # Quadratic would be 16 times; twice the proportion is what RELIABILITY class C allows.
    judge(seconds[1] < 4 * 2 * max(seconds[0], 0.05))


@pytest.mark.timed
@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_a_text_that_cannot_fit_is_refused_early(tokenizer: Tokenizer, flood: str) -> None:
    text = flood * ((8 << 20) // len(flood.encode()))
    start = time.thread_time()
    with pytest.raises(PromptTooLongError) as refused:
        tokenizer.encode(text, max_tokens=4096)
    judge(time.thread_time() - start < 1)
    assert 4096 < refused.value.n_tokens <= len(text.encode())


def test_what_fits_exactly_is_encoded(tokenizer: Tokenizer) -> None:
    n_tokens = len(tokenizer.encode("hello world", add_special=False))
    assert len(tokenizer.encode("hello world", add_special=False, max_tokens=n_tokens)) == n_tokens
    with pytest.raises(PromptTooLongError):
        tokenizer.encode("hello world", add_special=False, max_tokens=n_tokens - 1)


def test_lone_surrogates_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="lone surrogate at character 1"):
        tokenizer.encode("a\ud800")


def test_threads_share_a_tokenizer(tokenizer: Tokenizer) -> None:
    texts = [f"The number {i} is <|im_start|> not {i + 1}.\n" * 20 for i in range(8)]
    expected = [tokenizer.encode(text) for text in texts]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(20):
            ids = tokenizer.encode(texts[index])
            if ids != expected[index] or tokenizer.decode(ids).strip() != texts[index].strip():
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []

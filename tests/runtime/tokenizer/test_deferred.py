"""What is made when it is first asked for is made once, and by nobody who only loads."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.tokenizer import Tokenizer, spm
from slotmux.runtime.tokenizer.deferred import Deferred


def test_many_threads_get_the_one_thing() -> None:
    made: list[object] = []
    may_end = threading.Event()

    def make() -> object:
        may_end.wait(10)
        made.append(object())
        return made[-1]

    deferred = Deferred(make)
    got: list[object] = []
    threads = [threading.Thread(target=lambda: got.append(deferred())) for _ in range(8)]
    for thread in threads:
        thread.start()
    may_end.set()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert got == made * 8
    assert deferred() is made[0]


def test_merges_are_sought_when_a_text_comes(
    golden_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    plain = spm.find_merges

    def counted(*given: object) -> object:
        calls.append(1)
        return plain(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(spm, "find_merges", counted)
    tokenizer = Tokenizer.from_metadata(open_gguf(golden_dir / "gemma3" / "model.gguf").metadata)
    assert calls == []
    tokenizer.prepare()
    assert calls == [1]
    assert tokenizer.encode("two texts") != tokenizer.encode("one")
    assert calls == [1]

"""Slots on disk: what is restored goes on bit for bit; what cannot be used is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from slotmux.runtime.engine.config import MTP, NGRAM, SpecConfig
from slotmux.runtime.memory.saved import SavedPrefix
from slotmux.server.files.slot_file import SlotFileError, is_file_name, read_slot, write_slot
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import running
from tests.server.http.endpoints import check_as_told
from tests.server.tiny_model import serving_model

PROMPT = [5 + i * 7 % 90 for i in range(70)]
MORE = [11, 12, 13, 14, 15]


def complete(url: str, prompt: list[int], n: int = 12, **more: Any) -> dict[str, Any]:
    body = {"prompt": prompt, "n_predict": n, "temperature": 0, "n_probs": 3, "ignore_eos": True,
            "return_tokens": True, "id_slot": 1} | more  # fmt: skip
    answer = httpx.post(f"{url}/completion", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def act(url: str, action: str, slot: int = 1, **kwargs: Any) -> httpx.Response:
    body = {"filename": "a.bin"}
    answer = httpx.post(f"{url}/slots/{slot}?action={action}", json=body, **kwargs)
    if answer.status_code == 200:
        check_as_told("POST", "/slots/{slot_id}", answer.json())
    return answer


DRAFTED = SpecConfig(types=(MTP, NGRAM), n_max=3)


@pytest.mark.parametrize(
    ("name", "spec"),
    [("llama", None), ("qwen35", None), ("qwen35", DRAFTED), ("mamba", None)],
)
def test_what_is_restored_goes_on_bit_for_bit(name, spec, golden_dir, kernel_cache_dir, tmp_path):
    """Attention alone, a hybrid, one whose state has yet to be shown accepted drafts, recurrence
    alone; in the same process and in the next one."""
    path = golden_dir / name / "model.gguf"
    kwargs: dict[str, Any] = {"slot_save_path": tmp_path, "n_ctx": 192, "spec": spec}
    with serving_model(path, kernel_cache_dir, **kwargs) as server:
        url = server.url
        first = complete(url, PROMPT)
        history = PROMPT + first["tokens"] + MORE
        saved = act(url, "save").json()
        assert saved["n_saved"] >= len(PROMPT)
        assert saved["n_written"] == (tmp_path / "a.bin").stat().st_size
        assert saved["timings"]["save_ms"] > 0
        went_on = complete(url, history)
        assert went_on["timings"]["cache_n"] >= saved["n_saved"] - 1
        # what went on is longer, and all of it is forgotten
        assert act(url, "erase").json()["n_erased"] >= saved["n_saved"]
        afresh = complete(url, history, cache_prompt=False)
        assert afresh["timings"]["cache_n"] == 0
        assert told(afresh) == told(went_on)
        restored = act(url, "restore", slot=2).json()
        assert (restored["id_slot"], restored["n_restored"]) == (2, saved["n_saved"])
        again = complete(url, history)
        assert again["timings"]["cache_n"] >= saved["n_saved"] - 1
        assert told(again) == told(went_on)
    with serving_model(path, kernel_cache_dir, **kwargs) as server:
        assert act(server.url, "save").status_code == 400, "nothing has been computed yet"
        assert act(server.url, "restore").json()["n_restored"] == saved["n_saved"]
        again = complete(server.url, history)
        assert again["timings"]["cache_n"] >= saved["n_saved"] - 1
        assert told(again) == told(went_on)


def told(answer: dict[str, Any]) -> Any:
    return answer["tokens"], answer["completion_probabilities"]


@pytest.fixture(scope="module")
def served(golden_dir, kernel_cache_dir, tmp_path_factory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("slots")
    path = golden_dir / "llama" / "model.gguf"
    with serving_model(
        path, kernel_cache_dir, slot_save_path=folder, api_key=("k", "other")
    ) as server:
        yield server.url, folder


KEY = {"x-api-key": "k"}


def test_a_saved_slot_belongs_to_its_key(served):
    url, folder = served
    body = {"prompt": PROMPT, "n_predict": 3, "id_slot": 1}
    assert httpx.post(f"{url}/completion", json=body, headers=KEY, timeout=60).status_code == 200
    other = {"x-api-key": "other"}
    assert act(url, "save").status_code == 401
    assert act(url, "save", headers=other).status_code == 400
    assert act(url, "erase", headers=other).json()["n_erased"] == 0
    assert act(url, "save", headers=KEY).status_code == 200
    assert (folder / "a.bin").stat().st_mode & 0o077 == 0
    answer = act(url, "restore", headers=other)
    assert answer.status_code == 403
    assert answer.json()["error"]["type"] == "permission_error"
    assert act(url, "restore", headers=KEY).status_code == 200


def test_a_damaged_file_is_refused(served):
    url, folder = served
    test_a_saved_slot_belongs_to_its_key(served)
    whole = (folder / "a.bin").read_bytes()
    for wrong in (b"", b"x", whole[:-1], whole[:40], whole[:200] + b"\x01" + whole[201:]):
        (folder / "a.bin").write_bytes(wrong)
        answer = act(url, "restore", headers=KEY)
        assert answer.status_code == 400
        assert set(answer.json()["error"]) == {"code", "message", "type"}
    (folder / "a.bin").unlink()
    (folder / "a.bin").symlink_to("/etc/passwd")
    assert act(url, "restore", headers=KEY).status_code == 400
    (folder / "a.bin").unlink()
    assert act(url, "restore", headers=KEY).status_code == 400


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "a/b", ".hidden", "a\\b", "a\0", "x" * 129, "a b", "é", 5]
)
def test_file_names_without_tricks(served, name):
    url, folder = served
    before = sorted(folder.parent.rglob("*"))
    for action in ("save", "restore"):
        answer = httpx.post(f"{url}/slots/1?action={action}", json={"filename": name}, headers=KEY)
        assert answer.status_code == 400
        assert "'filename'" in answer.json()["error"]["message"]
    assert sorted(folder.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("path", "names"),
    [("9?action=save", "id_slot"), ("x?action=save", "id_slot"), ("1", "action"),
     ("1?action=eat", "action")],
)  # fmt: skip
def test_bad_slots_and_actions(served, path, names):
    answer = httpx.post(f"{served[0]}/slots/{path}", json={"filename": "a"}, headers=KEY)
    assert answer.status_code == 400
    assert names in answer.json()["error"]["message"]


def test_a_busy_slot_is_left_alone(served):
    url, _ = served
    body = {"prompt": PROMPT, "n_predict": 150, "id_slot": 1, "ignore_eos": True, "stream": True}
    started = threading.Event()

    def generate() -> None:
        with httpx.stream("POST", f"{url}/completion", json=body, headers=KEY, timeout=60) as one:
            for _ in one.iter_bytes():
                started.set()

    thread = threading.Thread(target=generate)
    thread.start()
    assert started.wait(30)
    answer = act(url, "save", headers=KEY)
    thread.join(60)
    assert answer.status_code in (200, 503)  # 200: the answer was over before it was asked
    if answer.status_code == 503:
        assert "slot runs" in answer.json()["error"]["message"]
        deadline = time.monotonic() + 10
        while act(url, "save", headers=KEY).status_code != 200:
            assert time.monotonic() < deadline


def test_without_a_folder_it_is_switched_off():
    with running(FakeEngine()) as server:
        answer = act(server.url, "save")
        assert answer.status_code == 501
        assert answer.json()["error"] == {
            "code": 501,
            "message": "This server does not save slots (--slot-save-path).",
            "type": "not_supported_error",
        }


def test_a_file_is_good_for_one_model(tmp_path):
    blocks = np.arange(16, dtype=np.uint8).reshape(2, 8)
    saved = SavedPrefix("k/", np.arange(20, dtype=np.int32), blocks, [])
    path = tmp_path / "x"
    write_slot(path, saved, "this")
    read, _ = read_slot(path, "this", max_tokens=20)
    assert read.tokens.tolist() == list(range(20))
    assert read.salt == "k/"
    assert np.array_equal(read.blocks, blocks)
    with pytest.raises(SlotFileError, match="another model"):
        read_slot(path, "that", max_tokens=20)
    with pytest.raises(SlotFileError, match="more tokens"):
        read_slot(path, "this", max_tokens=19)
    assert is_file_name("a-b_c.1")

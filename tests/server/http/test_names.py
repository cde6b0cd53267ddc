"""The names that the served model answers to."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import loaded_with, running


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    loaded = loaded_with(
        FakeEngine(), name="Org/Big", aliases=("gpt-4o",), file_name="Big-1B.Q4_K_M.gguf"
    )
    with running(loaded) as server, httpx.Client(base_url=server.url) as client:
        yield client


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (None, "Org/Big"), ("Org/Big", "Org/Big"), ("org/big", "Org/Big"), ("GPT-4O", "gpt-4o"),
        ("gpt-4o", "gpt-4o"), ("default", "Org/Big"), ("Default", "Org/Big"),
        ("Big-1B.Q4_K_M.gguf", "Org/Big"), ("big-1b.q4_k_m", "Org/Big"),
    ],
)  # fmt: skip
def test_names(http, asked, told):
    answer = http.post("/v1/completions", json={"prompt": "x", "model": asked})
    assert answer.status_code == 200
    assert answer.json()["model"] == told
    if asked is not None:
        assert http.get(f"/v1/models/{asked}").json()["id"] == told


@pytest.mark.parametrize("asked", ["", "Big", "gpt-4", "Org/Big.gguf", "../Big-1B.Q4_K_M.gguf"])
def test_other_names_are_told_what_there_is(http, asked):
    answer = http.post("/v1/completions", json={"prompt": "x", "model": asked})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert error["message"] == "The model does not exist here. Served: 'Org/Big', 'gpt-4o'."


def test_a_model_without_a_file_has_no_empty_name():
    with running(loaded_with(FakeEngine())) as server:
        body = {"prompt": "x", "model": ""}
        assert httpx.post(f"{server.url}/v1/completions", json=body).status_code == 404

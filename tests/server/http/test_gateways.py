"""What gateways say of a request, as llm-d's endpoint picker does."""

from __future__ import annotations

import httpx

from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import RunningServer, running

NEW, OLD = "X-LLM-D-Inference-Fairness-Id", "X-Gateway-Inference-Fairness-Id"


def client_of(server: RunningServer, headers: dict[str, str]) -> str:
    url = f"{server.url}/v1/completions"
    assert httpx.post(url, json={"prompt": "x"}, headers=headers).status_code == 200
    client: str = server.engine.submitted[-1].client
    return client


def test_fairness_counts_by_what_a_gateway_calls_the_client_now_or_called_it_before() -> None:
    with running(FakeEngine()) as server:
        assert client_of(server, {NEW: "team-a"}) == "team-a"
        assert client_of(server, {OLD: "team-a"}) == "team-a"
        assert client_of(server, {OLD: "old", NEW: "new"}) == "new"
        assert len(client_of(server, {OLD: "x" * 1000})) == 128
        assert client_of(server, {}) == ""


def test_with_several_keys_a_header_buys_no_turns() -> None:
    with running(FakeEngine(), api_key=("k1", "k2")) as server:
        key = {"Authorization": "Bearer k1"}
        assert client_of(server, key | {OLD: "a"}) == client_of(server, key | {NEW: "b"}) != "a"


def test_what_is_the_gateways_business_changes_nothing() -> None:
    with running(FakeEngine()) as server:
        headers = {
            "X-LLM-D-Inference-Objective": "batch",
            "X-LLM-D-Slo-Ttft-Ms": "200",
            "X-LLM-D-Slo-Tpot-Ms": "no number",
        }
        assert client_of(server, headers) == ""

"""Speculation over HTTP: the same answers, what is told of it, and bounds that clients set."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from gguf import GGUFValueType

from slotmux.runtime.engine.config import MTP, NGRAM, SpecConfig
from slotmux.runtime.gguf import Metadata, open_gguf
from slotmux.runtime.gguf.values import Entry
from slotmux.server.loading.errors import CommandError
from slotmux.server.loading.speculation import spec_config
from slotmux.server.settings import load_settings
from tests.server.fake_model import RunningServer
from tests.server.tiny_model import serving_model

PROMPTS = ["one two three one two three one two", "a", "The licence says that", "x y z " * 9]


@pytest.fixture(scope="module")
def servers(golden_dir: Path, kernel_cache_dir: Path) -> Iterator[dict[str, RunningServer]]:
    """The same model without speculation and with it."""
    path = golden_dir / "qwen35" / "model.gguf"
    spec = SpecConfig((MTP, NGRAM), 4)
    with (
        serving_model(path, kernel_cache_dir) as plain,
        serving_model(path, kernel_cache_dir, spec=spec) as drafting,
    ):
        yield {"plain": plain, "drafting": drafting}


def ask(server: RunningServer, path: str = "/v1/completions", **body: Any) -> httpx.Response:
    body = {"max_tokens": 40, "ignore_eos": True, "return_token_ids": True} | body
    return httpx.post(f"{server.url}{path}", json=body, timeout=30)


def bodies() -> list[dict[str, Any]]:
    return [
        {"prompt": prompt, "temperature": temperature, "seed": 5, "logprobs": 2, **more}
        for prompt in PROMPTS
        for temperature, more in (
            (0, {}),
            (0.9, {"top_p": 0.9, "presence_penalty": 0.5}),
            (1.3, {"logit_bias": {"17": 3, "40": 3}, "stop": ["e"]}),
        )
    ]


def test_answers_are_those_without(servers: dict[str, RunningServer]) -> None:
    """In a crowd, with logprobs, stops and penalties."""
    answers = {}
    for name, server in servers.items():
        with ThreadPoolExecutor(6) as pool:
            replies = list(pool.map(lambda body, s=server: ask(s, **body).json(), bodies()))
        answers[name] = [reply["choices"] for reply in replies]
        timings = [reply["timings"] for reply in replies]
        if name == "drafting":
            assert sum(t["draft_n"] for t in timings if "draft_n" in t) > 50
            assert all(t.get("draft_n_accepted", 0) <= t.get("draft_n", 0) for t in timings)
        else:
            assert not any("draft_n" in t for t in timings)
    assert answers["drafting"] == answers["plain"]


def test_a_request_may_do_without(servers: dict[str, RunningServer]) -> None:
    body = {"prompt": PROMPTS[0], "temperature": 0}
    want = ask(servers["plain"], **body).json()["choices"]
    for bound in ({"speculative.n_max": 0}, {"speculative": {"n_max": 0}}):
        reply = ask(servers["drafting"], **body, **bound).json()
        assert "draft_n" not in reply["timings"]
        assert reply["choices"] == want
    reply = ask(servers["drafting"], **body, **{"speculative.n_max": 1, "speculative.p_min": 0})
    assert 0 < reply.json()["timings"]["draft_n"] <= 40


@pytest.mark.parametrize(
    ("bounds", "param"),
    [
        ({"speculative.n_max": 5}, "speculative.n_max"),
        ({"speculative": {"n_max": 2, "n_min": 3}}, "speculative.n_min"),
        ({"speculative.p_min": 1.5}, "speculative.p_min"),
        ({"speculative.n_max": "2"}, "speculative.n_max"),
        ({"speculative.type": "draft"}, "speculative.type"),
        ({"speculative": {"n_max": 1}, "speculative.n_max": 1}, "speculative"),
    ],
)
def test_bounds_that_cannot_be_kept_are_refused(
    servers: dict[str, RunningServer], bounds: dict[str, Any], param: str
) -> None:
    for path, body in (
        ("/v1/completions", {"prompt": "a"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
    ):
        reply = ask(servers["drafting"], path, **body, **bounds)
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == param


def test_a_server_that_does_not_speculate_says_so(servers: dict[str, RunningServer]) -> None:
    reply = ask(servers["plain"], prompt="a", **{"speculative.n_max": 2})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "speculative.n_max"
    assert ask(servers["plain"], prompt="a", **{"speculative.n_max": 0}).status_code == 200


def test_what_operators_see(servers: dict[str, RunningServer]) -> None:
    server = servers["drafting"]
    assert ask(server, prompt=PROMPTS[3], temperature=0).status_code == 200
    metrics = httpx.get(f"{server.url}/metrics").text
    for name in (
        "vllm:spec_decode_num_drafts_total",
        "vllm:spec_decode_num_draft_tokens_total",
        "vllm:spec_decode_num_accepted_tokens_total",
        'vllm:spec_decode_num_draft_tokens_per_pos_total{position="3"}',
        'vllm:spec_decode_num_accepted_tokens_per_pos_total{position="0"}',
        'slotmux_slot_drafted_tokens_total{slot="0"}',
        'slotmux_slot_accepted_tokens_total{slot="3"}',
    ):
        assert name in metrics
    slots = httpx.get(f"{server.url}/slots").json()
    assert sum(slot["n_draft_total"] for slot in slots) > 0
    params = httpx.get(f"{server.url}/props").json()["default_generation_settings"]["params"]
    assert params["speculative.types"] == [MTP, NGRAM]
    assert params["speculative.n_max"] == 4


def test_what_the_operator_chooses(tiny_model_path: Any) -> None:
    def chosen(model: str, **flags: Any) -> SpecConfig:
        return spec_config(load_settings(**flags), open_gguf(tiny_model_path(model)))

    assert chosen("qwen35").types == (MTP,)
    assert chosen("qwen35moe", spec_draft_n_max=2) == SpecConfig((MTP,), 2)
    assert chosen("llama") == SpecConfig()
    assert chosen("qwen35", spec_type="none") == SpecConfig()
    assert chosen("qwen35", spec_draft_n_max=0) == SpecConfig()
    assert chosen("llama", spec_type="ngram", spec_draft_p_min=0.25).p_min == 0.25
    assert chosen("qwen35", spec_type="draft-mtp,ngram").types == (MTP, NGRAM)
    with pytest.raises(CommandError, match="multi-token"):
        chosen("llama", spec_type="draft-mtp")


def test_a_file_that_only_claims_to_have_the_block() -> None:
    """nextn_predict_layers without the tensors, or of a family that we do not know it of."""
    from slotmux.runtime.models import has_mtp

    def file(arch: str, names: list[str], n: int = 1) -> Any:
        values = {f"{arch}.nextn_predict_layers": n, f"{arch}.block_count": 3}
        entries = {key: Entry(GGUFValueType.UINT32, value, 0) for key, value in values.items()}
        tensors = dict.fromkeys(names)
        return SimpleNamespace(architecture=arch, metadata=Metadata(entries), tensors=tensors)

    tensor = "blk.2.nextn.eh_proj.weight"
    assert has_mtp(file("qwen35", [tensor]))
    assert not has_mtp(file("qwen35", []))
    assert not has_mtp(file("qwen35", [tensor], n=0))
    assert not has_mtp(file("llama", [tensor]))

"""What the front adds, and what it leaves as it is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.cluster.deployed import DEFAULTS, Deployed
from tests.cluster.streams import long_story


def test_a_full_application_says_429_and_when_to_come_back(deployed: Deployed) -> None:
    deployed.run(replicas=2, parallel=1, max_queue=0)
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(
                lambda i: deployed.client.post(
                    "/v1/chat/completions", json=long_story(i, 600) | {"stream": False}
                ),
                range(16),
            )
        )
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    for answer in answers:
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json()["error"]["code"] == "queue_full"
            assert answer.json()["error"]["type"] == "rate_limit_error"


def test_keys_are_the_replicas_business(deployed: Deployed) -> None:
    deployed.run(replicas=1, api_key="secret")
    assert deployed.chat("hi").status_code == 401
    assert deployed.client.get("/metrics").status_code == 401
    headers = {"Authorization": "Bearer secret"}
    assert deployed.chat("hi", max_tokens=2, headers=headers).status_code == 200
    assert deployed.client.get("/metrics", headers=headers).status_code == 200


def test_metrics_are_those_of_all_replicas(deployed: Deployed) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    deployed.run(replicas=2)
    deployed.chat("hi", max_tokens=2)
    page = deployed.client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    families = {f.name: f for f in text_string_to_metric_families(page.text)}
    names = {each.replica for each in deployed.replicas()}
    ready = families["slotmux_ready"].samples
    assert {sample.labels["replica"] for sample in ready} == names
    generated = families["vllm:generation_tokens"].samples
    assert sum(sample.value for sample in generated) == 2


@pytest.mark.parametrize(
    ("path", "shape"),
    [("/v1/messages", {"type": "error"}), ("/api/chat", {}), ("/v1/chat/completions", {})],
)
def test_refusals_keep_the_shape_of_their_api(
    deployed: Deployed, path: str, shape: dict[str, str]
) -> None:
    deployed.run(replicas=1)
    answer = deployed.client.post(path, json={"messages": 3})
    assert answer.status_code == 400
    told = answer.json()
    assert shape.items() <= told.items()
    assert "error" in told


def test_several_models_are_told_apart_by_name(deployed: Deployed) -> None:
    settings = {"parallel": 2, "ctx_size": 512}
    one = {"model": "demo", "host": DEFAULTS["host"], "settings": settings}
    deployed.run(models={"first": one, "second": one | {"settings": settings | {"parallel": 3}}})
    listed = deployed.client.get("/v1/models").json()["data"]
    assert [model["id"] for model in listed] == ["first", "second"]
    for name in ("first", "second"):
        answer = deployed.chat("hi", model=name, max_tokens=2)
        assert answer.json()["model"] == name
        (replica,) = deployed.replicas(name)
        assert answer.headers["x-slotmux-replica"] == replica.replica
        header = {"Serve-Multiplexed-Model-Id": name}
        assert deployed.chat("hi", max_tokens=2, headers=header).json()["model"] == name
    answer = deployed.chat("hi", model="third")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_a_client_that_goes_frees_its_place(deployed: Deployed) -> None:
    deployed.run(replicas=1, parallel=1, max_queue=0)
    with (
        httpx.Client(base_url=deployed.url, timeout=60) as client,
        client.stream("POST", "/v1/chat/completions", json=long_story(1, 1900)) as response,
    ):
        assert next(response.iter_lines()).startswith("data: ")
    for _ in range(100):
        answer = deployed.chat("hi", max_tokens=2)
        if answer.status_code == 200:
            break
    assert answer.status_code == 200
    page = deployed.client.get("/metrics").text
    assert "vllm:num_requests_running{" in page

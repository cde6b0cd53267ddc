"""Alerts in promtool, and all panels of the dashboard in a Prometheus that scrapes servers."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.operators.servers import ROOT, Replica, free_port, two_replicas

DEPLOY = ROOT / "deploy"
HERE = Path(__file__).parent
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)
# What has nothing to show where nothing went wrong, and no model drafts or has no states.
MAY_BE_EMPTY = {"Refusals and failures", "Refused"}


def _rules(folder: Path, rules: str) -> subprocess.CompletedProcess[str]:
    (folder / "alerts.yml").write_text(rules)
    shutil.copy(HERE / "alerts_test.yml", folder)
    return subprocess.run(
        ["promtool", "test", "rules", "alerts_test.yml"], cwd=folder, capture_output=True, text=True
    )


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    rules = (DEPLOY / "prometheus/alerts.yml").read_text()
    result = _rules(tmp_path, rules)
    assert result.returncode == 0, result.stdout + result.stderr
    for old, new in (("== 0", "== 1"), ("> 2 *", "> 3 *"), ("> 0.05", "> 0.5"), ("(0.95", "(0.05")):
        changed = rules.replace(old, new, 1)
        assert changed != rules
        assert _rules(tmp_path, changed).returncode != 0, old


@needs_promtool
def test_every_alert_is_tested() -> None:
    tests = (HERE / "alerts_test.yml").read_text()
    for line in (DEPLOY / "prometheus/alerts.yml").read_text().splitlines():
        if "alert: " in line:
            assert line.split("alert: ")[1] in tests


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One that has scraped two busy servers for a while."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    folder = tmp_path_factory.mktemp("prometheus")
    with two_replicas() as replicas, _scraping(folder, replicas) as url:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for replica in replicas:
                _use(replica)
            if _points(url, "rate(slotmux_requests_total[10s])"):
                break
        yield url


def _use(replica: Replica) -> None:
    messages = [{"role": "user", "content": "Tell me a story about prefixes and caches."}]
    for _ in range(3):
        body = {"messages": messages, "max_tokens": 32}
        assert httpx.post(f"{replica.url}/v1/chat/completions", json=body).status_code == 200
    assert httpx.post(f"{replica.url}/v1/chat/completions", json={}).status_code == 400


@contextlib.contextmanager
def _scraping(folder: Path, replicas: list[Replica]) -> Iterator[str]:
    targets = [f"127.0.0.1:{replica.port}" for replica in replicas]
    shutil.copy(DEPLOY / "prometheus/alerts.yml", folder)
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        "rule_files: [alerts.yml]\n"
        "scrape_configs:\n"
        f"  - {{job_name: slotmux, static_configs: [{{targets: {json.dumps(targets)}}}]}}\n"
    )
    port = free_port()
    command = ["prometheus", f"--config.file={folder}/prometheus.yml"]
    command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/-/ready").status_code == 200:
                    break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def _points(url: str, query: str) -> list[object]:
    answer = httpx.get(f"{url}/api/v1/query", params={"query": query}).json()
    assert answer["status"] == "success", (query, answer)
    found: list[object] = answer["data"]["result"]
    return found


def test_every_panel_shows_something(prometheus: str) -> None:
    panels = json.loads((DEPLOY / "grafana/slotmux.json").read_text())["panels"]
    for panel in panels:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$__rate_interval", "20s").replace("$instance", ".*")
            if panel["title"] not in MAY_BE_EMPTY:
                assert _points(prometheus, query), (panel["title"], query)


def test_no_alert_fires_where_all_is_well(prometheus: str) -> None:
    answer = httpx.get(f"{prometheus}/api/v1/alerts").json()
    assert answer["data"]["alerts"] == []
    rules = httpx.get(f"{prometheus}/api/v1/rules").json()["data"]["groups"]
    assert {rule["health"] for group in rules for rule in group["rules"]} == {"ok"}

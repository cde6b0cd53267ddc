"""Dashboards, alerts and scalers speak of metrics that the server exports."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import ROOT
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import running

DEPLOY = ROOT / "deploy"
_NAMES = re.compile(r"\b(?:slotmux_|vllm:|llamacpp:|process_)[a-z0-9_]+")


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """Every name of a sample, after a request and a refusal."""
    with running(FakeEngine(n_ctx=4096)) as server:
        assert httpx.post(f"{server.url}/v1/completions", json={"prompt": "x"}).status_code == 200
        assert httpx.post(f"{server.url}/v1/completions", json={"prompt": 1.5}).status_code == 400
        lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    names = {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}
    # Labelled counters that have counted nothing yet are told by their help alone.
    return names | {line.split()[2] + "_total" for line in lines if line.startswith("# TYPE")}


def dashboard() -> dict[str, Any]:
    told: dict[str, Any] = json.loads((DEPLOY / "grafana/slotmux.json").read_text())
    return told


def expressions() -> dict[str, list[str]]:
    """All PromQL of deploy/, by file."""
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    scaler = yaml.safe_load((DEPLOY / "kubernetes/keda.yaml").read_text())
    scaled = yaml.safe_load((DEPLOY / "kubernetes/autoscaling.yaml").read_text())
    return {
        "dashboard": [
            target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())
        ],
        "alerts": [rule["expr"] for group in rules["groups"] for rule in group["rules"]],
        "keda": [trigger["metadata"]["query"] for trigger in scaler["spec"]["triggers"]],
        "hpa": [metric["pods"]["metric"]["name"] for metric in scaled["spec"]["metrics"]],
    }


@pytest.mark.parametrize("file", ["dashboard", "alerts", "keda", "hpa"])
def test_every_metric_that_is_asked_for_is_exported(exported: set[str], file: str) -> None:
    asked = {name for expression in expressions()[file] for name in _NAMES.findall(expression)}
    assert asked or file == "hpa"
    assert asked <= exported


def test_what_is_no_metric_is_noticed(exported: set[str]) -> None:
    assert "slotmux_queue_length" in exported
    assert "slotmux_queue_lenght" not in exported
    assert _NAMES.findall("rate(slotmux_x_total[5m]) / up") == ["slotmux_x_total"]


def test_the_dashboard_is_whole() -> None:
    told = dashboard()
    panels = [panel for panel in told["panels"] if panel["type"] != "row"]
    assert len(panels) > 20
    ids = [panel["id"] for panel in told["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            assert 'instance=~"$instance"' in target["expr"]
    variables = {variable["name"] for variable in told["templating"]["list"]}
    assert variables == {"datasource", "instance"}


def test_panels_do_not_overlap_and_fit_the_page() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells


def test_grafana_is_told_of_the_dashboard_and_of_prometheus() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana/datasources.yaml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load((DEPLOY / "grafana/dashboards.yaml").read_text())["providers"]
    grafana = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["grafana"]
    mounted = [volume.split(":")[1] for volume in grafana["volumes"]]
    assert f"{provider['options']['path']}/slotmux.json" in mounted


def test_every_alert_says_what_it_means() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            assert "$labels.instance" in rule["annotations"]["summary"]
            assert rule["annotations"]["description"].endswith(".")
    page = (ROOT / "docs/deployment/monitoring.md").read_text()
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert f"`{rule['alert']}`" in page

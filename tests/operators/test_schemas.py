"""Files of deploy/ against the schemas that their readers publish."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import promql_parser
import pytest
import yaml
from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap

from tests.operators.servers import ROOT

DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
VERSIONS = ("1.30", "1.33")  # the oldest with preStop.sleep on by default, and a newer
# Where the other kinds have their schemas: in packages from npm; `InferencePool` in none.
CUSTOM = ("HTTPRoute", "ScaledObject", "PodMonitor")
NODE_MODULES = ROOT / ".cache" / "operators"

# Messages that a configuration names by their URL have to be known to be read.
for _name in (
    "extensions.filters.network.http_connection_manager.v3",
    "extensions.filters.http.router.v3",
    "extensions.filters.http.ext_proc.v3",
    "extensions.retry.host.previous_hosts.v3",
    "extensions.upstreams.http.v3",
):
    importlib.import_module(f"envoy_data_plane.envoy.{_name}")


@pytest.mark.parametrize("name", ["envoy/envoy.yaml", "llm-d/envoy.yaml"])
def test_envoy_knows_every_field(name: str) -> None:
    config = yaml.safe_load((DEPLOY / name).read_text())
    assert Bootstrap.from_dict(config).static_resources.listeners[0].name == "slotmux"
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
    manager["typed_config"]["stream_idle_timout"] = "1s"
    with pytest.raises(KeyError, match="stream_idle_timout"):
        Bootstrap.from_dict(config)


def manifests() -> list[dict[str, Any]]:
    return [
        told
        for path in sorted(KUBERNETES.glob("*.yaml"))
        if path.name != "kustomization.yaml"
        for told in yaml.safe_load_all(path.read_text())
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_the_manifests(version: str) -> None:
    n_read = 0
    for told in manifests():
        if told["kind"] not in (*CUSTOM, "InferencePool"):
            assert kubernetes_validate.validate(told, version, strict=True)
            n_read += 1
    assert n_read >= 6
    (server,) = (told for told in manifests() if told["kind"] == "StatefulSet")
    server["spec"]["template"]["spec"]["container"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(server, version, strict=True)


def _objections(objects: list[dict[str, Any]]) -> list[str]:
    if not (NODE_MODULES / "node_modules").is_dir():
        pytest.skip("npm was not there when make test-deploy installed")
    answer = subprocess.run(
        ["node", str(NODE_MODULES / "crds.mjs")],
        input=json.dumps(objects),
        capture_output=True,
        text=True,
        check=True,
    )
    told: list[str] = json.loads(answer.stdout)
    return told


def test_custom_resources_are_as_their_operators_define_them() -> None:
    custom = [told for told in manifests() if told["kind"] in CUSTOM]
    assert {told["kind"] for told in custom} == set(CUSTOM)
    assert _objections(custom) == [""] * len(custom)
    for told in custom:
        told["spec"] = "none"
    assert all(_objections(custom))


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_builds_the_server() -> None:
    built = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES)], capture_output=True, text=True, check=True
    )
    kinds = [told["kind"] for told in yaml.safe_load_all(built.stdout)]
    assert "StatefulSet" in kinds


def _expressions(path: Path) -> list[str]:
    told = yaml.safe_load(path.read_text())
    if "groups" in told:
        return [rule["expr"] for group in told["groups"] for rule in group["rules"]]
    if "panels" in told:
        return [t["expr"] for panel in told["panels"] for t in panel.get("targets", ())]
    return [trigger["metadata"]["query"] for trigger in told["spec"]["triggers"]]


@pytest.mark.parametrize(
    "name", ["prometheus/alerts.yml", "grafana/slotmux.json", "kubernetes/keda.yaml"]
)
def test_every_query_is_promql(name: str) -> None:
    found = _expressions(DEPLOY / name)
    assert found
    for expression in found:
        filled = expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
        assert promql_parser.parse(filled) is not None
    with pytest.raises(ValueError, match=r"."):
        promql_parser.parse("rate(slotmux_x[5m]")

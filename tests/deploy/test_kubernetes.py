"""The manifests agree with one another and with the server. `make test-deploy` holds them against
the published schemas."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from slotmux.server.commands.options import env_name
from slotmux.server.http.session import SESSION_HEADERS
from slotmux.server.process.state import ServerState
from slotmux.server.settings import Settings
from tests.conftest import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
LABELS = {"app.kubernetes.io/name": "slotmux"}


def objects(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    (server,) = objects("server.yaml")
    template: dict[str, Any] = server["spec"]["template"]
    return template


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    found: dict[str, Any] = only
    return found


def test_the_kustomization_names_files_that_there_are() -> None:
    (told,) = objects("kustomization.yaml")
    assert all((FOLDER / name).is_file() for name in told["resources"])
    listed = {*told["resources"], "kustomization.yaml"}
    page = (ROOT / "docs/deployment/kubernetes.md").read_text()
    for path in FOLDER.glob("*.yaml"):
        assert path.name in listed or f"`{path.name}`" in page, path.name


def test_all_speak_of_the_same_pods(pod: dict[str, Any]) -> None:
    assert LABELS.items() <= pod["metadata"]["labels"].items()
    (server,) = objects("server.yaml")
    assert server["spec"]["selector"]["matchLabels"] == LABELS
    for service in objects("service.yaml"):
        assert service["spec"]["selector"] == LABELS
    for name in ("disruption.yaml", "monitoring.yaml"):
        assert objects(name)[0]["spec"]["selector"]["matchLabels"] == LABELS
    assert objects("network.yaml")[0]["spec"]["podSelector"]["matchLabels"] == LABELS
    assert objects("inference-pool.yaml")[0]["spec"]["selector"]["matchLabels"] == LABELS
    for name in ("autoscaling.yaml", "keda.yaml"):
        target = objects(name)[0]["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) == (server["kind"], server["metadata"]["name"])


def test_the_server_is_told_what_there_is(container: dict[str, Any]) -> None:
    known = {env_name(name) for name in Settings.model_fields}
    told = {variable["name"]: variable["value"] for variable in container["env"]}
    assert told.keys() <= known
    values = {name.removeprefix("SLOTMUX_").lower(): value for name, value in told.items()}
    del values["api_key_file"]  # there is none here
    settings = Settings(host="0.0.0.0", api_key="x", **values)
    assert settings.parallel == 8
    assert ServerState(settings).settings.metrics == "public"


def test_a_replica_has_cores_of_its_own_and_no_rights(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    resources = container["resources"]
    assert resources["requests"] == resources["limits"]  # Guaranteed: the CPU manager ties it
    assert re.fullmatch(r"\d+", resources["requests"]["cpu"])
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["automountServiceAccountToken"] is False
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_a_replica_that_ends_is_given_the_time_it_takes(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    told = {variable["name"]: variable["value"] for variable in container["env"]}
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    drains = float(told["SLOTMUX_DRAIN_TIMEOUT"])
    assert pod["spec"]["terminationGracePeriodSeconds"] > waits + drains


def test_probes_ask_what_there_is(container: dict[str, Any]) -> None:
    paths = {
        probe: container[f"{probe}Probe"]["httpGet"]["path"]
        for probe in ("startup", "readiness", "liveness")
    }
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}
    assert [(p["name"], p["containerPort"]) for p in container["ports"]] == [("http", 8080)]


def test_the_pool_is_as_the_extension_describes_it() -> None:
    """Of inference.networking.k8s.io/v1 the known fields, since no registry has its schema."""
    pool, route = objects("inference-pool.yaml")
    assert (pool["apiVersion"], pool["kind"]) == (
        "inference.networking.k8s.io/v1",
        "InferencePool",
    )
    spec = pool["spec"]
    assert spec.keys() == {"selector", "targetPorts", "endpointPickerRef"}
    assert spec["selector"].keys() == {"matchLabels"}
    assert spec["targetPorts"] == [{"number": 8080}]
    picker = spec["endpointPickerRef"]
    assert picker.keys() == {"name", "kind", "port", "failureMode"}
    assert picker["kind"] == "Service"
    assert picker["port"].keys() == {"number"}
    assert picker["failureMode"] in ("FailOpen", "FailClose")
    (rule,) = route["spec"]["rules"]
    (backend,) = rule["backendRefs"]
    assert (backend["kind"], backend["name"]) == ("InferencePool", pool["metadata"]["name"])


def test_the_picker_without_kubernetes_knows_the_same_things() -> None:
    folder = ROOT / "deploy" / "llm-d"
    config = yaml.safe_load((folder / "epp.yaml").read_text())
    named = {plugin.get("name", plugin["type"]): plugin for plugin in config["plugins"]}
    (profile,) = config["schedulingProfiles"]
    layer = config["dataLayer"]
    used = [plugin["pluginRef"] for plugin in profile["plugins"]]
    used += [layer["discovery"]["pluginRef"]]
    for source in layer["sources"]:
        used += [source["pluginRef"], *(e["pluginRef"] for e in source["extractors"])]
    assert sorted(used) == sorted(named)
    sources = named["session"]["parameters"]["sessionIdConfig"]["sources"]
    assert {source["header"] for source in sources} <= set(SESSION_HEADERS)
    for endpoint in yaml.safe_load((folder / "endpoints.yaml").read_text())["endpoints"]:
        assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+", endpoint["address"])
        assert isinstance(endpoint["port"], str)

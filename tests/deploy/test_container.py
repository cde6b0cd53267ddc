"""The files of deployment say what they must, as far as that shows without a container engine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from slotmux.server.commands.options import env_name
from slotmux.server.settings import Settings
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"


def _compose() -> dict[str, Any]:
    compose: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return compose


def _known_variables() -> set[str]:
    return {env_name(name) for name in Settings.model_fields}


def test_compose_runs_the_server_and_a_prometheus_that_knows_its_key() -> None:
    services = _compose()["services"]
    assert set(services) == {"slotmux", "prometheus", "grafana"}
    for name, service in services.items():
        assert service["secrets"] == ["grafana_password" if name == "grafana" else "api_key"]
        assert service["cap_drop"] == ["ALL"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert services["slotmux"]["read_only"] is True
    grace = int(services["slotmux"]["stop_grace_period"].rstrip("s"))
    assert grace > Settings.model_fields["drain_timeout"].default


def test_prometheus_scrapes_the_service_that_compose_starts() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["slotmux:8080"]}]
    assert job["authorization"]["credentials_file"] == "/run/secrets/api_key"
    # Settings refuses names it was not told of, so compose must name the one Prometheus uses.
    assert _compose()["services"]["slotmux"]["environment"]["SLOTMUX_ALLOWED_HOSTS"] == "slotmux"


def test_compose_mounts_files_that_there_are_and_ignores_secrets() -> None:
    compose = _compose()
    ignored = (DEPLOY / ".gitignore").read_text().split()
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).exists() or f"/{Path(source).name}/" in ignored
            else:
                assert source in compose["volumes"]
    for secret in compose["secrets"].values():
        assert f"/{Path(secret['file']).name}" in ignored


@pytest.mark.parametrize("name", ["Dockerfile", "deploy/compose.yaml", "deploy/slotmux.service"])
def test_every_variable_that_is_set_exists(name: str) -> None:
    used = set(re.findall(r"\bSLOTMUX_[A-Z_]+", (ROOT / name).read_text()))
    assert used
    assert used <= _known_variables()


def test_the_image_runs_as_nobody_special_and_is_probed() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    stages = [line for line in lines if line.startswith("FROM ")]
    assert len(stages) == 2
    last = lines[lines.index(stages[-1]) :]
    assert "USER 10001:10001" in last
    assert any(line.startswith("HEALTHCHECK ") for line in last)
    assert 'VOLUME ["/var/cache/slotmux"]' in last


def _unit() -> dict[str, list[str]]:
    """Every assignment of the unit, by key, in order."""
    unit: dict[str, list[str]] = {}
    for line in (DEPLOY / "slotmux.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            unit.setdefault(key, []).append(value)
    return unit


def test_the_unit_drains_restarts_and_lets_kernels_compile() -> None:
    unit = _unit()
    assert unit["Type"] == ["exec"]
    assert unit["DynamicUser"] == ["yes"]
    assert unit["CacheDirectoryMode"] == ["0700"]
    assert unit["RestartPreventExitStatus"] == ["2"]
    assert (
        int(unit["TimeoutStopSec"][0].rstrip("s")) > Settings.model_fields["drain_timeout"].default
    )
    assert "MemoryDenyWriteExecute" not in unit


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "slotmux.service").read_text()
    runnable = tmp_path / "slotmux.service"
    runnable.write_text(text.replace("/opt/slotmux/bin/slotmux", "/bin/true"))
    result = subprocess.run(
        ["systemd-analyze", "verify", str(runnable)], capture_output=True, text=True, timeout=60
    )
    assert "slotmux.service" not in result.stderr
    assert result.returncode == 0

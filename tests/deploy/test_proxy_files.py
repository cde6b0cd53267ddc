"""Every proxy hashes the same headers, those that the server takes for a session."""

from __future__ import annotations

import re
from typing import Any

import yaml

from slotmux.server.http.session import SESSION_HEADERS
from slotmux.server.settings import MAX_BODY_BYTES, Settings
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"


def envoy_route() -> dict[str, Any]:
    config = yaml.safe_load((DEPLOY / "envoy/envoy.yaml").read_text())
    (listener,) = config["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (host,) = manager["route_config"]["virtual_hosts"]
    return {"host": host} | host["routes"][0]["route"]


def test_nginx_hashes_the_headers_of_sessions_in_their_order() -> None:
    text = (DEPLOY / "nginx/slotmux.conf").read_text()
    maps = re.findall(r"^map .*?^}", text, re.S | re.M)
    tried = re.findall(r"\$http_([a-z_]+)", "".join(maps[:1]))
    order = [tried[1], tried[2]] if tried[0] == tried[1] else tried
    names = [m.replace("_", "-") for m in re.findall(r'""\s+\$http_([a-z_]+);', text)]
    first = order[0].replace("_", "-")
    assert [first, *names] == list(SESSION_HEADERS)
    assert f"client_max_body_size {MAX_BODY_BYTES >> 20}m;" in text
    assert "proxy_buffering off;" in text


def test_haproxy_hashes_the_headers_of_sessions_in_their_order() -> None:
    text = (DEPLOY / "haproxy/haproxy.cfg").read_text()
    assert re.findall(r"set-var\(txn\.key\) req\.hdr\(([a-z-]+)\)", text) == list(SESSION_HEADERS)
    fields = Settings.model_fields
    assert f"maxconn {fields['parallel'].default + fields['max_queue'].default}\n" in text


def test_envoy_hashes_the_headers_of_sessions_in_their_order() -> None:
    route = envoy_route()
    policy = route["hash_policy"]
    headers = [each["header"]["header_name"] for each in policy if each.get("terminal")]
    assert headers == list(SESSION_HEADERS)
    assert policy[-1] == {"connection_properties": {"source_ip": True}}
    assert route["timeout"] == "0s"
    assert route["retry_policy"]["retriable_status_codes"] == [429, 503]
    assert route["host"]["per_request_buffer_limit_bytes"] == MAX_BODY_BYTES

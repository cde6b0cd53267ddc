"""Prometheus' own parser reads /metrics, and every family has help and a type."""

from __future__ import annotations

import urllib.request

import openai
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain


def read(url, accept):
    request = urllib.request.Request(f"{url}/metrics", headers={"accept": accept})
    with urllib.request.urlopen(request) as answer:
        return answer.headers["content-type"], answer.read().decode()


def test_the_text_is_read(demo):
    client = openai.OpenAI(base_url=f"{demo}/v1", api_key="none")
    client.completions.create(model="demo", prompt="Hello", max_tokens=2)
    kind, text = read(demo, "text/plain")
    families = list(plain(text))
    assert kind.startswith("text/plain")
    assert len(families) > 10
    for family in families:
        assert family.type != "unknown", family.name
        assert family.documentation, family.name


def test_openmetrics_is_read_where_it_is_given(demo):
    kind, text = read(demo, "application/openmetrics-text; version=1.0.0")
    parse = openmetrics if "openmetrics" in kind else plain
    assert list(parse(text))

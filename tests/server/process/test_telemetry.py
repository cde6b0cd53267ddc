"""OpenTelemetry: spans that continue the client's trace, the histograms of a model server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from slotmux.server.process.telemetry import Telemetry
from slotmux.server.settings import SettingsError, load_settings
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import RunningServer, running
from tests.server.http.sockets import eventually

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01", "tracestate": "a=b"}


class Recorded:
    """A server whose telemetry stays in memory."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        server.state.telemetry = Telemetry(SimpleSpanProcessor(self.exporter), self.reader)

    def ask(self, path: str = "/v1/completions", headers: Any = None, **body: Any) -> None:
        self.exporter.clear()
        httpx.post(f"{self.server.url}{path}", json=body, headers=headers)
        eventually(lambda: any(span.kind.name == "SERVER" for span in self.spans.values()))

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def points(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        return {metric.name: metric.data.data_points for metric in metrics}


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    with running(FakeEngine()) as server:
        yield Recorded(server)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_a_span_with_three_phases(recorded, stream):
    recorded.ask(prompt="x", stream=stream, headers=PARENT)
    spans = recorded.spans
    assert set(spans) == {"POST /v1/completions", "queue", "prompt", "generate"}
    root = spans["POST /v1/completions"]
    assert f"{root.context.trace_id:032x}" == TRACE_ID
    assert root.parent is not None
    assert f"{root.parent.span_id:016x}" == "b7ad6b7169203331"
    assert root.context.trace_state["a"] == "b"
    assert root.attributes["http.response.status_code"] == 200
    assert root.attributes["gen_ai.operation.name"] == "text_completion"
    assert root.attributes["gen_ai.usage.input_tokens"] == 1
    assert root.attributes["gen_ai.usage.output_tokens"] == 13
    for name in ("queue", "prompt", "generate"):
        assert spans[name].parent.span_id == root.context.span_id
        assert spans[name].end_time <= root.end_time
    assert spans["queue"].end_time == spans["prompt"].start_time
    assert spans["prompt"].end_time == spans["generate"].start_time


def test_the_histograms_of_a_model_server(recorded):
    for _ in range(2):
        recorded.ask(path="/v1/chat/completions", messages=[{"role": "user", "content": "x"}])
    points = recorded.points()
    prefix = "gen_ai.server."
    names = ("request.duration", "time_to_first_token", "time_per_output_token")
    assert set(points) == {prefix + name for name in names}
    for (point,) in points.values():
        assert point.count == 2
        assert point.attributes["gen_ai.operation.name"] == "chat"
        assert point.attributes["gen_ai.response.model"] == "fake"
    (point,) = points[prefix + "time_per_output_token"]
    assert point.sum == pytest.approx(2 * 0.003 / 12)


@pytest.mark.parametrize("sent", ["x", "00-0-0-00", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", ""])
def test_a_malformed_parent_begins_a_new_trace(recorded, sent):
    recorded.ask(prompt="x", headers={"traceparent": sent, "tracestate": "=,=" * 99})
    assert recorded.spans["POST /v1/completions"].parent is None


def test_a_refusal_is_no_error_of_the_server(recorded):
    recorded.ask(prompt="x", n=999)
    root = recorded.spans["POST /v1/completions"]
    assert set(recorded.spans) == {"POST /v1/completions"}
    assert root.attributes["error.type"] == "invalid_value"
    assert root.status.status_code is StatusCode.UNSET
    assert recorded.reader.get_metrics_data() is None


def test_a_failure_is_told():
    with running(FakeEngine(fail_at=2)) as server:
        recorded = Recorded(server)
        recorded.ask(prompt="x", stream=True)
        root = recorded.spans["POST /v1/completions"]
        assert root.status.status_code is StatusCode.ERROR
        points = recorded.points()
        assert set(points) == {"gen_ai.server.request.duration"}
        assert points["gen_ai.server.request.duration"][0].attributes["error.type"]


def test_no_text_of_a_user_is_in_it(recorded):
    recorded.ask(prompt="canary", user="canary", session_id="canary", stop="canary")
    told = [span.to_json() for span in recorded.exporter.get_finished_spans()]
    assert told
    assert "canary" not in str(told) + str(recorded.points())


def test_probes_are_not_recorded(recorded):
    httpx.get(f"{recorded.server.url}/health")
    recorded.ask(prompt="x")
    assert "GET /health" not in recorded.spans


def test_nothing_is_imported_without_it():
    code = (
        "import sys; import slotmux.server.process.serve;"
        "sys.exit(any(name.startswith('opentelemetry.sdk') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_address_must_be_one():
    assert load_settings(otel_endpoint="http://localhost:4318").otel_endpoint
    with pytest.raises(SettingsError, match="--otel-endpoint"):
        load_settings(otel_endpoint="localhost:4318")

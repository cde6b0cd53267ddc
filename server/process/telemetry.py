"""OpenTelemetry: a span for each request with its queue, prompt and generation, and the three
histograms that the conventions for generative AI name. Imported only with --otel-endpoint."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from slotmux.runtime.engine.request import Usage
from slotmux.server.http.trace import Trace
from slotmux.server.version import slotmux_version

Attributes = dict[str, str | int | float | bool]

_NAME: Final = "slotmux"
# Every other route that generates continues a text.
_CHATS = ("chat", "messages", "responses")
# Buckets that the conventions recommend, in seconds.
_DURATIONS = [0.01 * 2**i for i in range(14)]
_TOKEN_TIMES = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5]
_FIRST_TIMES = [
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Histograms:
    """The metrics of a model server, in seconds."""

    duration: Histogram
    first_token: Histogram
    per_token: Histogram


class Telemetry:
    """Records requests when they are over; nothing of a request's text is in it. Event loop only;
    exporting is done by threads of the SDK."""

    def __init__(self, spans: SpanProcessor, metrics: MetricReader) -> None:
        given = Resource({"service.name": _NAME, "service.version": slotmux_version()})
        resource = given.merge(OTELResourceDetector().detect())
        self._tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._tracers.add_span_processor(spans)
        self._meters = MeterProvider([metrics], resource, shutdown_on_exit=False)
        self._tracer: Tracer = self._tracers.get_tracer(_NAME, slotmux_version())
        self._histograms = _histograms(self._meters.get_meter(_NAME, slotmux_version()))
        self._propagator = TraceContextTextMapPropagator()

    def record(self, trace: Trace, method: str, route: str, model: str) -> None:
        """Tell of a request that has just ended. ``model``: the served one's name, if any is."""
        clock = Clock()
        attributes: Attributes = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": trace.status,
            "slotmux.request_id": trace.request_id,
        }
        shared = _shared(trace, route, model)
        if trace.engine_ids:
            attributes |= shared | _counts(trace)
        span = self._tracer.start_span(
            f"{method} {route}",
            self._parent(trace),
            SpanKind.SERVER,
            attributes,
            start_time=clock.at(trace.started),
        )
        if trace.error is not None:
            span.set_attribute("error.type", trace.error)
            if not 400 <= trace.status < 500:  # that is the client's fault, not the span's
                span.set_status(StatusCode.ERROR)
        if trace.engine_ids:
            self._record_phases(trace, span, clock)
            self._record_metrics(trace, shared, clock)
        span.end(clock.now_ns)

    def shutdown(self) -> None:
        """Sends what there still is, for a few seconds at most; a collector may be gone."""
        self._tracers.shutdown()
        self._meters.shutdown(3000)

    def _parent(self, trace: Trace) -> Context:
        """What ``traceparent`` says; a new trace if it is missing or malformed."""
        carrier = {"traceparent": trace.traceparent, "tracestate": trace.tracestate}
        return self._propagator.extract({k: v for k, v in carrier.items() if v}, Context())

    def _record_phases(self, trace: Trace, parent: Span, clock: Clock) -> None:
        context = set_span_in_context(parent, Context())
        for name, start, end in _phases(trace, clock.now):
            child = self._tracer.start_span(name, context, start_time=clock.at(start))
            child.end(clock.at(end))

    def _record_metrics(self, trace: Trace, shared: Attributes, clock: Clock) -> None:
        failed: Attributes = {"error.type": trace.error} if trace.error is not None else {}
        self._histograms.duration.record(clock.now - trace.started, shared | failed)
        if failed:
            return
        for usage in trace.usages:
            if usage.n_generated:
                self._histograms.first_token.record(usage.ttft_s, shared)
            if usage.n_generated > 1:
                per_token = usage.generate_s / (usage.n_generated - 1)
                self._histograms.per_token.record(per_token, shared)


class Clock:
    """time.monotonic() as nanoseconds since the epoch, as of now."""

    def __init__(self) -> None:
        self.now, self.now_ns = time.monotonic(), time.time_ns()

    def at(self, moment: float) -> int:
        """``moment`` on the monotonic clock, no later than now."""
        return self.now_ns - max(0, round((self.now - moment) * 1e9))


def otlp_telemetry(endpoint: str) -> Telemetry:
    """What is sent by OTLP over HTTP to ``endpoint``, such as http://collector:4318. Raises
    ImportError without the exporter."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    base = endpoint.rstrip("/")
    spans = OTLPSpanExporter(f"{base}/v1/traces", timeout=3)
    metrics = OTLPMetricExporter(f"{base}/v1/metrics", timeout=3)
    return Telemetry(BatchSpanProcessor(spans), PeriodicExportingMetricReader(metrics))


def _phases(trace: Trace, now: float) -> list[tuple[str, float, float]]:
    """What the first choice went through, and when; one that ended early, as far as it came."""
    admitted = trace.t_admitted
    if not admitted:
        return [("queue", trace.started, now)]
    if not trace.usages:
        last = "prompt" if trace.n_computed < trace.n_prompt else "generate"
        return [("queue", trace.started, admitted), (last, admitted, now)]
    usage = trace.usages[0]
    begun = admitted + usage.prompt_s
    return [
        ("queue", admitted - usage.queue_s, admitted),
        ("prompt", admitted, begun),
        ("generate", begun, begun + usage.generate_s),
    ]


def _histograms(meter: Meter) -> Histograms:
    def histogram(name: str, text: str, bounds: list[float]) -> Histogram:
        full = f"gen_ai.server.{name}"
        return meter.create_histogram(full, "s", text, explicit_bucket_boundaries_advisory=bounds)

    return Histograms(
        histogram("request.duration", "From a request to the end of its answer.", _DURATIONS),
        histogram("time_to_first_token", "From submission to the first token.", _FIRST_TIMES),
        histogram("time_per_output_token", "From token to token after the first.", _TOKEN_TIMES),
    )


def _shared(trace: Trace, route: str, model: str) -> Attributes:
    is_chat = any(word in route for word in _CHATS)
    return {
        "gen_ai.operation.name": "chat" if is_chat else "text_completion",
        "gen_ai.provider.name": _NAME,
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
    }


def _counts(trace: Trace) -> Attributes:
    usages: list[Usage] = trace.usages
    counts: Attributes = {"gen_ai.usage.input_tokens": trace.n_prompt}
    if usages:
        counts["gen_ai.usage.output_tokens"] = sum(usage.n_generated for usage in usages)
        counts["gen_ai.usage.cache_read.input_tokens"] = usages[0].n_cached
    return counts

"""What every app of ours counts of HTTP, beside what a collector reads at each scrape."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.registry import Collector


class HttpMetrics:
    """One registry for each app, so that several apps can live in one process. ``prefix``: of the
    names of what is counted here."""

    def __init__(self, prefix: str, collector: Collector) -> None:
        # Otherwise a second time series stands beside each counter, that nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._requests = Counter(
            f"{prefix}_http_requests",
            "Requests by route and status.",
            ["route", "status"],
            registry=self._registry,
        )
        self._refusals = Counter(
            f"{prefix}_http_refusals",
            "Requests that were refused or failed, by error code.",
            ["code"],
            registry=self._registry,
        )
        self._registry.register(collector)
        ProcessCollector(registry=self._registry)

    def count_request(self, route: str, status: int, code: str | None) -> None:
        """One finished HTTP request; ``code`` is that of its error, if any."""
        self._requests.labels(route, str(status)).inc()
        if code is not None:
            self._refusals.labels(code).inc()

    def render(self) -> bytes:
        """The text exposition."""
        return generate_latest(self._registry)

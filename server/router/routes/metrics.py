"""/metrics of the router itself: models, their memory, loads and ends."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from slotmux.server.process.http_metrics import HttpMetrics
from slotmux.server.router.fleet.fleet import Fleet
from slotmux.server.router.fleet.member import Status
from slotmux.server.router.state import RouterState

_REASONS = ("idle", "room", "request", "reload", "shutdown")


class RouterMetrics(HttpMetrics):
    """Requests as clients of the router saw them; the models' own counts are beside them."""

    def __init__(self, state: RouterState) -> None:
        super().__init__("slotmux_router", _FleetCollector(state))


class _FleetCollector(Collector):
    """Reads the fleet at every scrape."""

    def __init__(self, state: RouterState) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        if not self._state.is_serving:
            return
        fleet = self._state.fleet
        limit = "Bytes that all models may take together."
        yield GaugeMetricFamily("slotmux_models_memory_limit_bytes", limit, fleet.room.n_bytes)
        yield from _gauges(fleet)
        yield from _counters(fleet)


def _gauges(fleet: Fleet) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "slotmux_model_state", "1 for the state that it is in.", labels=["model", "state"]
    )
    memory = GaugeMetricFamily(
        "slotmux_model_memory_bytes", "Given to its process.", labels=["model"]
    )
    running = GaugeMetricFamily(
        "slotmux_model_requests_running", "Requests in its process.", labels=["model"]
    )
    waiting = GaugeMetricFamily(
        "slotmux_model_requests_waiting", "Requests for it to be loaded.", labels=["model"]
    )
    for name, member in fleet.members.items():
        for each in Status:
            state.add_metric([name, each.value], float(member.status is each))
        memory.add_metric([name], float(member.n_bytes))
        running.add_metric([name], float(member.n_running))
        waiting.add_metric([name], float(member.n_queued))
    yield from (state, memory, running, waiting)


def _counters(fleet: Fleet) -> Iterator[Metric]:
    loads = CounterMetricFamily("slotmux_model_loads", "Times loaded.", labels=["model"])
    crashes = CounterMetricFamily(
        "slotmux_model_crashes", "Times its process ended by itself.", labels=["model"]
    )
    unloads = CounterMetricFamily(
        "slotmux_model_unloads", "Times unloaded, by reason.", labels=["model", "reason"]
    )
    for name, member in fleet.members.items():
        loads.add_metric([name], float(member.n_loads))
        crashes.add_metric([name], float(member.n_crashes))
        for reason in _REASONS:
            unloads.add_metric([name, reason], float(member.unloads.get(reason, 0)))
    yield from (loads, crashes, unloads)

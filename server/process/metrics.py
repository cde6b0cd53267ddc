"""/metrics: the engine's counters under the names of llama-server, vLLM and our own."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from slotmux.runtime.engine.stats import Counters, EngineStats, HistogramStats
from slotmux.runtime.memory.disk.store import FAULTS
from slotmux.runtime.memory.disk.tier import DiskStats
from slotmux.runtime.memory.missed import CacheMiss
from slotmux.runtime.ubatch import BLOCK_CELLS
from slotmux.server.process.http_metrics import HttpMetrics
from slotmux.server.process.state import ServerState
from slotmux.server.settings import Settings

# Name after a prefix, help, field of EngineStats.
_LATENCIES = (
    ("time_to_first_token_seconds", "From submission to the first token.", "ttft"),
    ("inter_token_latency_seconds", "From a token to the next of its choice.", "itl"),
    ("e2e_request_latency_seconds", "Of a whole choice.", "e2e"),
    ("request_queue_time_seconds", "Without a slot.", "queue"),
    ("request_prefill_time_seconds", "In a slot, to the first token.", "prompt"),
    ("request_decode_time_seconds", "From the first token to the last.", "generate"),
)


class Metrics(HttpMetrics):
    """Of a server of one model."""

    def __init__(self, state: ServerState) -> None:
        super().__init__("slotmux", _ServerCollector(state))


class _ServerCollector(Collector):
    """Reads the engine's snapshot at every scrape; nothing of it is kept here."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        service = self._state.service
        yield _gauge("slotmux_ready", "1 once a model is served.", float(service is not None))
        if service is None:
            return
        stats = service.loaded.engine.stats()
        yield from _llama_server(stats)
        yield from _vllm(stats)
        yield _cache_config(stats, self._state.settings)
        yield from _prefix_cache(stats)
        yield from _engine_gauges(stats)
        yield _gauge(
            "slotmux_engine_stalled_seconds",
            "For how long nothing has moved in a busy engine.",
            service.pulse.stalled_s,
        )
        yield _counter(
            "slotmux_kernels_compiled",
            "Kernels that were not in the cache; constant once ready.",
            service.loaded.n_compiled(),
        )
        yield from _engine_counters(stats.counters)
        if stats.disk is not None:
            yield from _disk(stats.disk)
        yield from _slot_drafts(stats)
        yield from _histograms(stats)
        events = service.loaded.kv_events
        if events is not None:
            yield _counter("slotmux_kv_events", "Batches of events sent.", events.n_published)
            yield _counter("slotmux_kv_events_dropped", "Batches without room.", events.n_dropped)
        yield _labelled("slotmux_aborts", "cause", service.intake.n_aborted)
        yield _gauge(
            "slotmux_http_generations",
            "Generations whose answer is not complete.",
            len(service.intake.running),
        )


def _llama_server(stats: EngineStats) -> Iterator[Metric]:
    c = stats.counters
    n_waiting = stats.n_queued
    prefix = "llamacpp:"
    yield _counter(f"{prefix}prompt_tokens", "Prompt tokens computed.", c.n_prompt_tokens)
    yield _counter(
        f"{prefix}prompt_tokens_cached", "Prompt tokens reused.", c.n_prompt_tokens_cached
    )
    yield _counter(f"{prefix}prompt_seconds", "Time of prompts.", c.prompt_s)
    yield _counter(f"{prefix}tokens_predicted", "Tokens generated.", c.n_generated_tokens)
    yield _counter(f"{prefix}tokens_predicted_seconds", "Time of generation.", c.generate_s)
    yield _counter(f"{prefix}n_decode", "Forwards.", c.n_steps)
    yield _gauge(f"{prefix}n_tokens_max", "Longest sequence seen.", c.n_tokens_max)
    yield _counter(f"{prefix}spec_decode_num_draft_tokens", "Tokens drafted.", c.n_draft_tokens)
    yield _counter(
        f"{prefix}spec_decode_num_accepted_tokens", "Drafts accepted.", c.n_draft_accepted
    )
    yield _gauge(
        f"{prefix}prompt_tokens_seconds", "Prompt tokens/s.", _ratio(c.n_prompt_tokens, c.prompt_s)
    )
    yield _gauge(
        f"{prefix}predicted_tokens_seconds",
        "Generated tokens/s of a request.",
        _ratio(c.n_generated_tokens, c.generate_s),
    )
    yield _gauge(f"{prefix}requests_processing", "Choices in slots.", stats.n_slots_busy)
    yield _gauge(f"{prefix}requests_deferred", "Choices without a slot.", n_waiting)
    yield _gauge(
        f"{prefix}n_busy_slots_per_decode",
        "Slots that shared a forward, on average.",
        _ratio(c.n_step_slots, c.n_steps),
    )


def _vllm(stats: EngineStats) -> Iterator[Metric]:
    """What routers and autoscalers read without being told our names."""
    c = stats.counters
    usage = _ratio(stats.memory.running, stats.memory.most)
    yield _gauge("vllm:num_requests_running", "Choices in slots.", stats.n_slots_busy)
    yield _gauge("vllm:num_requests_waiting", "Choices without a slot.", stats.n_queued)
    yield _gauge("vllm:kv_cache_usage_perc", "Memory of running sequences, states too.", usage)
    yield _counter("vllm:prefix_cache_queries", "Tokens looked up.", c.n_prompt_tokens_queried)
    yield _counter("vllm:prefix_cache_hits", "Tokens found.", c.n_prompt_tokens_cached)
    yield _counter("vllm:prompt_tokens", "Prompt tokens computed.", c.n_prompt_tokens)
    yield _counter("vllm:generation_tokens", "Tokens generated.", c.n_generated_tokens)
    yield _counter("vllm:num_preemptions", "Sequences parked for want of memory.", c.n_parked)
    yield from _drafts(c)
    for name, text, histogram in _LATENCIES:
        yield _histogram(f"vllm:{name}", text, getattr(stats, histogram))


def _cache_config(stats: EngineStats, settings: Settings) -> Metric:
    """Sizes that llm-d's endpoint picker reads, under vLLM's labels."""
    k, v = settings.cache_type_k, settings.cache_type_v
    labels = {
        "block_size": str(BLOCK_CELLS),
        "cache_dtype": k if k == v else f"{k},{v}",
        "enable_prefix_caching": "True",
        "engine": "0",
        "is_attention_free": str(not stats.n_blocks),
        "kv_cache_memory_bytes": str(stats.memory.limit or stats.memory.most),
        "num_cpu_blocks": "0",
        "num_gpu_blocks": str(stats.n_blocks),
        "sliding_window": "None",
    }
    text = "Sizes of the cache; a GPU's blocks are those of cells here."
    family = GaugeMetricFamily("vllm:cache_config_info", text, labels=list(labels))
    family.add_metric(list(labels.values()), 1.0)
    return family


def _prefix_cache(stats: EngineStats) -> Iterator[Metric]:
    """What is kept in memory, and within which bound."""
    memory = stats.memory
    kept = GaugeMetricFamily(
        "slotmux_prefix_cache_bytes", "Kept in memory for reuse, by kind.", labels=["kind"]
    )
    for kind in ("cells", "states"):
        kept.add_metric([kind], float(getattr(memory, f"kept_{kind}")))
    kept.add_metric(["index"], float(memory.index))
    yield kept
    yield _gauge("slotmux_memory_running_bytes", "Cells and states in use.", memory.running)
    yield _gauge(
        "slotmux_memory_limit_bytes",
        "Cells, states and index of running and kept sequences, at most; 0: by their number.",
        memory.limit,
    )


def _drafts(c: Counters) -> Iterator[Metric]:
    """Speculative decoding, under vLLM's names."""
    prefix = "vllm:spec_decode_num_"
    yield _counter(f"{prefix}drafts", "Verified runs of drafts.", c.n_drafts)
    yield _counter(f"{prefix}draft_tokens", "Tokens drafted.", c.n_draft_tokens)
    yield _counter(f"{prefix}accepted_tokens", "Drafts accepted.", c.n_draft_accepted)
    for name, counts in (("draft", c.drafted_at), ("accepted", c.accepted_at)):
        by_position = {str(position): count for position, count in enumerate(counts)}
        yield _labelled(f"{prefix}{name}_tokens_per_pos", "position", by_position)


def _engine_gauges(stats: EngineStats) -> Iterator[Metric]:
    gauges = {
        "slots": ("Slots.", len(stats.slots)),
        "slots_free": ("Slots without a choice.", len(stats.slots) - stats.n_slots_busy),
        "queue_length": ("Choices without a slot.", stats.n_queued),
        "kv_blocks": ("Blocks of 16 KV cells.", stats.n_blocks),
        "kv_blocks_free": ("Blocks that hold nothing.", stats.n_blocks_free),
        "kv_blocks_cached": ("Blocks kept only as reusable prefixes.", stats.n_blocks_cached),
        "state_rows": ("Rows of recurrent state.", stats.n_rows),
        "state_rows_free": ("Rows that hold nothing.", stats.n_rows_free),
        "checkpoints": ("Kept copies of rows.", stats.n_checkpoints),
        "heartbeat_age_seconds": ("Since the engine's last sign of life.", stats.heartbeat_age_s),
        "step_max_seconds": ("Longest step seen.", stats.max_step_s),
    }
    for name, (text, value) in gauges.items():
        yield _gauge(f"slotmux_{name}", text, value)


def _slot_drafts(stats: EngineStats) -> Iterator[Metric]:
    for name, counts in (
        ("drafted", {str(slot.id): slot.n_draft for slot in stats.slots}),
        ("accepted", {str(slot.id): slot.n_draft_accepted for slot in stats.slots}),
    ):
        yield _labelled(f"slotmux_slot_{name}_tokens", "slot", counts)


def _engine_counters(c: Counters) -> Iterator[Metric]:
    yield _counter("slotmux_requests", "Requests taken.", c.n_requests)
    yield _counter("slotmux_parked", "Sequences parked for want of memory.", c.n_parked)
    yield _counter(
        "slotmux_passed", "Requests that began while one before them did not fit.", c.n_passed
    )
    yield _counter(
        "slotmux_recomputed_tokens", "Tokens computed again after parking.", c.n_recomputed_tokens
    )
    yield _counter(
        "slotmux_forced_tokens", "Tokens that a grammar left no choice about.", c.n_forced_tokens
    )
    yield _labelled("slotmux_finished", "reason", c.finished)
    misses = {miss.value: c.cache_misses.get(miss, 0) for miss in CacheMiss if miss}
    yield _labelled("slotmux_prefix_cache_misses", "reason", misses)
    n_disk = c.n_prompt_tokens_disk
    by_tier = {"memory": c.n_prompt_tokens_cached - n_disk, "disk": n_disk}
    yield _labelled("slotmux_prefix_cache_hit_tokens", "tier", by_tier)
    yield _labelled("slotmux_rejections", "cause", c.rejected)


def _disk(disk: DiskStats) -> Iterator[Metric]:
    """The prefix cache's tier on disk."""
    prefix = "slotmux_prefix_cache_disk_"
    yield _gauge(f"{prefix}bytes", "Kept on disk for this model.", disk.n_bytes)
    yield _gauge(f"{prefix}bytes_limit", "Of all that is kept there.", disk.max_bytes)
    yield _gauge(f"{prefix}files", "Kept on disk for this model.", disk.n_files)
    yield _counter(f"{prefix}written_bytes", "Written to disk.", disk.n_written_bytes)
    yield _counter(f"{prefix}read_bytes", "Read from disk.", disk.n_read_bytes)
    yield _counter(f"{prefix}evicted_files", "Removed to make room.", disk.n_evicted)
    yield _counter(
        f"{prefix}lost", "Blocks and states evicted before they were written.", disk.n_lost
    )
    written = {"block": disk.n_written_blocks, "state": disk.n_written_states}
    yield _labelled(f"{prefix}spilled", "kind", written)
    read = {"block": disk.n_read_blocks, "state": disk.n_read_states}
    yield _labelled(f"{prefix}restored", "kind", read)
    yield _labelled(f"{prefix}errors", "kind", dict.fromkeys(FAULTS, 0) | disk.faults)


def _histograms(stats: EngineStats) -> Iterator[Metric]:
    yield _histogram("slotmux_step_seconds", "One engine step.", stats.step)
    for name, text, histogram in _LATENCIES:
        yield _histogram(f"slotmux_{name}", text, getattr(stats, histogram))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=float(value))


def _labelled(name: str, label: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, f"By {label}.", labels=[label])
    for key, count in sorted(counts.items()):
        family.add_metric([key], float(count))
    return family


def _histogram(name: str, text: str, stats: HistogramStats) -> Metric:
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*map(str, stats.bounds), "+Inf"), stats.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=stats.sum_s)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0

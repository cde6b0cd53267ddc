"""From what the operator chose and what a file is to how it is run: every choice made once, before
anything is loaded. ``settings -> plan -> load(plan)``, for serving and for every other command."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from slotmux.kernels.cpu import detect_cpu
from slotmux.runtime.engine.config import MTP, EngineConfig, SpecConfig
from slotmux.runtime.gguf import GGUFFile
from slotmux.runtime.lowered import ModelConfig
from slotmux.runtime.memory.disk.tier import STAGED_BYTES
from slotmux.runtime.models import is_encoder
from slotmux.runtime.models.hparams import read_hparams
from slotmux.runtime.numa import chosen_nodes
from slotmux.runtime.sizes import model_sizes
from slotmux.runtime.ubatch import BLOCK_CELLS
from slotmux.server.loading.available import Limit, memory_limit
from slotmux.server.loading.budget import Budget
from slotmux.server.loading.cores import n_usable_cores
from slotmux.server.loading.errors import CommandError
from slotmux.server.loading.plan_encoder import plan_encoder
from slotmux.server.loading.prefix_cache import CacheRoom, cache_room
from slotmux.server.loading.remedy import remedy
from slotmux.server.loading.room import Room, room_of_slots
from slotmux.server.loading.speculation import spec_config, without_mtp
from slotmux.server.settings import Settings


@dataclass(frozen=True, slots=True)
class DiskPlan:
    """Where the prefix cache keeps what memory has no room for, and how many bytes of it."""

    directory: Path
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model file is run. Nothing is loaded yet."""

    path: Path
    model: ModelConfig
    engine: EngineConfig
    budget: Budget
    limit: Limit  # more is not taken
    disk: DiskPlan | None = None  # of the prefix cache; None: it has no tier there
    remedy: str = ""  # flags that would make it fit, where it does not

    @property
    def spec(self) -> SpecConfig:
        """Where drafts come from."""
        return self.engine.spec

    def check(self) -> None:
        """Raises CommandError, with what would fit, when more is needed than there is."""
        if self.budget.total_bytes > self.limit.n_bytes:
            parts = (f"this needs {self.budget.describe()}", f"the limit is {self.limit}")
            raise CommandError("; ".join(filter(None, (*parts, self.remedy))))


@dataclass(frozen=True, slots=True)
class Sequences:
    """What a command that serves nobody computes, in place of slots: ``n`` sequences of
    ``n_tokens`` each, and logits of at most ``n_outputs`` tokens of a forward (0: of the last)."""

    n: int
    n_tokens: int
    n_outputs: int = 0


def make_plan(settings: Settings, file: GGUFFile, sequences: Sequences | None = None) -> Plan:
    """The plan of a server, or of a command that computes ``sequences``.

    Lowers the model into nothing for its sizes: raises what loading would for a file that cannot be
    used, and CommandError for a choice that does not go with it. Memory is counted, not judged.
    """
    try:
        detect_cpu(settings.isa)
    except ValueError as error:
        raise CommandError(str(error)) from error
    if is_encoder(file):
        return _encoder_plan(settings, file)
    n_ctx_train = read_hparams(file).n_ctx_train
    room = (
        room_of_slots(settings, n_ctx_train)
        if sequences is None
        else _room_of_sequences(sequences, n_ctx_train)
    )
    spec = spec_config(settings, file)
    plan = _plan(settings, file, room, spec)
    if MTP in spec.types and not plan.budget.sizes.has_drafts:
        plan = _plan(settings, file, room, without_mtp(spec))
    return plan


def _encoder_plan(settings: Settings, file: GGUFFile) -> Plan:
    config, engine, budget = plan_encoder(settings, file, _common_config(settings))
    return Plan(file.paths[0], config, engine, budget, memory_limit(settings.mem_limit))


def _common_config(settings: Settings) -> ModelConfig:
    """What does not hang on the kind of model."""
    nodes = chosen_nodes(settings.numa)
    allowed = [cpu for node in nodes for cpu in node.cpus]
    return ModelConfig(
        n_threads=settings.threads or n_usable_cores(allowed=allowed),
        n_ubatch=settings.n_ubatch,
        pooling=settings.pooling_type,
        isa=settings.isa,
        pin_threads=settings.pin_threads,
        # Which node this is, is said once: the thread that loads may run elsewhere.
        numa=f"isolate:{nodes[0].id}" if settings.numa == "isolate" else settings.numa,
        kernel_cache=settings.caches / "kernels",
        panel_cache=settings.caches / "panels" if settings.panel_cache else None,
    )


def _plan(settings: Settings, file: GGUFFile, room: Room, spec: SpecConfig) -> Plan:
    config = replace(
        _common_config(settings),
        n_ctx=room.n_cells,
        n_slots=room.n_slots,
        n_outputs=room.n_outputs,
        cache_type_k=settings.cache_type_k,
        cache_type_v=settings.cache_type_v,
        max_drafts=spec.n_max,
        use_mtp=MTP in spec.types,
    )
    sizes = model_sizes(file, replace(config, is_elastic=room.is_served))
    limit = memory_limit(settings.mem_limit)
    staged = STAGED_BYTES if _disk_plan(settings) is not None else 0
    budget = Budget(room.n_slots, room.n_ctx, room.n_cells, 0, sizes, staged)
    cache = CacheRoom()
    if room.is_served:
        cache = cache_room(settings, sizes, room.n_cells, limit.n_bytes - budget.total_bytes)
    budget = replace(budget, cache_bytes=cache.n_bytes)
    n_ctx_train = read_hparams(file).n_ctx_train
    return Plan(
        path=file.paths[0],
        model=replace(
            config,
            n_checkpoints=cache.n_states,
            n_ready_checkpoints=cache.n_ready_states,
            n_cache_blocks=cache.n_blocks,
            is_elastic=cache.is_elastic,
        ),
        engine=_engine_config(settings, room, spec, cache.n_bytes),
        budget=budget,
        limit=limit,
        disk=_disk_plan(settings),
        remedy=remedy(settings, budget, n_ctx_train, limit.n_bytes) if room.is_served else "",
    )


def _disk_plan(settings: Settings) -> DiskPlan | None:
    """0 bytes: no tier on disk."""
    directory, n_bytes = settings.prefix_cache_dir, settings.prefix_cache_disk_bytes
    return DiskPlan(directory, n_bytes) if directory is not None and n_bytes else None


def _engine_config(
    settings: Settings, room: Room, spec: SpecConfig, cache_bytes: int
) -> EngineConfig:
    return EngineConfig(
        n_slots=room.n_slots,
        n_ctx=room.n_ctx,
        max_queue=settings.max_queue,
        queue_timeout_s=settings.queue_timeout,
        poison_freed=settings.poison_freed,
        prefix_cache_bytes=cache_bytes,
        n_prompt_beside=settings.prompt_tokens_beside,
        max_step_s=settings.max_step_ms / 1000,
        spec=spec,
    )


def _room_of_sequences(sequences: Sequences, n_ctx_train: int) -> Room:
    n_tokens = sequences.n_tokens
    if n_tokens > n_ctx_train:
        raise CommandError(
            f"{n_tokens} tokens in one sequence: the model was trained for {n_ctx_train}"
        )
    n_cells = -(-n_tokens // BLOCK_CELLS) * BLOCK_CELLS
    # The engine's least; such a command runs no engine.
    n_ctx = max(n_tokens, 2)
    return Room(sequences.n, n_ctx, sequences.n * n_cells, sequences.n_outputs)

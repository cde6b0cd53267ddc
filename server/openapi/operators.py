"""Schemas of what only operators ask for."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict


class KeptState(TypedDict):
    """A kept recurrent state; the one of least worth is given up first."""

    position: int
    kind: str
    n_hits: int
    is_fork: bool
    worth: float
    is_on_disk: bool


class Stretch(TypedDict):
    """A path of the prefix cache without a fork; -1 is the parent of those that begin at 0."""

    id: int
    parent: int
    owner: str
    begin: int
    end: int
    n_blocks: int
    n_held: int
    n_on_disk: int
    states: list[KeptState]


class DiskTier(TypedDict):
    """What the prefix cache keeps on disk, and what came and went since the start."""

    max_bytes: int
    n_bytes: int
    n_files: int
    n_evicted: int
    n_written_blocks: int
    n_written_states: int
    n_written_bytes: int
    n_read_blocks: int
    n_read_states: int
    n_read_bytes: int
    n_lost: int
    faults: dict[str, int]


class PrefixCache(TypedDict):
    """What the prefix cache holds; ``disk`` is null without --prefix-cache-dir."""

    stretches: list[Stretch]
    is_all: bool
    disk: DiskTier | None


class SlotEntry(TypedDict):
    """What a slot does."""

    id: int
    id_task: int
    n_ctx: int
    is_processing: bool
    state: str
    choice: int
    n_prompt_tokens: int
    n_prompt_tokens_cache: int
    n_computed: int
    n_decoded: int
    n_kv_blocks: int
    n_states: int
    client: str
    n_draft_total: int
    n_draft_accepted_total: int


class GenerationDefaults(TypedDict):
    """What a request gets that does not say."""

    n_ctx: int
    params: dict[str, Any]


class Props(TypedDict):
    """What the server is."""

    default_generation_settings: GenerationDefaults
    total_slots: int
    capabilities: list[str]
    pooling: str
    model_alias: str
    model_path: str
    modalities: dict[str, bool]
    chat_template: str
    bos_token: str
    eos_token: str

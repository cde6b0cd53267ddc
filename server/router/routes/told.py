"""The shapes of what the router's own endpoints take and give."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NotRequired

from typing_extensions import TypedDict

from slotmux.server.openapi.answers import ModelEntry
from slotmux.server.openapi.operators import SlotEntry
from slotmux.server.schemas.base import StrictModel
from slotmux.server.schemas.generation import Label
from slotmux.server.schemas.parameters import Place


class ModelRequest(StrictModel):
    """Body of POST /models/load and /models/unload."""

    place: ClassVar[Place | None] = None
    model: Label


class Success(TypedDict):
    """It was begun."""

    success: Literal[True]


class ModelStatus(TypedDict):
    """How far a model is; ``failed`` and ``error`` where it last went wrong."""

    value: Literal["unloaded", "loading", "loaded", "unloading"]
    args: list[str]
    failed: NotRequired[bool]
    exit_code: NotRequired[int]
    error: NotRequired[str]


class RoutedModel(ModelEntry):
    """A model, loaded or not. ``memory``: bytes that its process was given."""

    aliases: list[str]
    status: ModelStatus
    source: Literal["models_dir", "preset"]
    architecture: dict[str, list[str]]
    pinned: bool
    n_running: int
    n_waiting: int
    memory: int


class RoutedModels(TypedDict):
    """All of them."""

    object: Literal["list"]
    data: list[RoutedModel]


class RoutedSlot(SlotEntry):
    """A slot of one of the models."""

    model: str


class RouterProps(TypedDict):
    """What the router is, as llama-server's says it."""

    role: Literal["router"]
    max_instances: int
    models_autoload: bool
    model_alias: str
    model_path: str
    default_generation_settings: dict[str, Any]
    build_info: str

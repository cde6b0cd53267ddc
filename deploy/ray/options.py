"""What may be chosen of an application on Ray Serve; checked before anything starts."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from slotmux.server.process.state import DEFAULT_NAME
from slotmux.server.settings import Settings, load_settings

Routing = Literal["prefix", "session", "load"]
Path = Literal["front", "ingress"]
# What a replica decides itself, and no operator.
_OURS = {"port", "threads", "pin_threads", "model"}


class ModelOptions(BaseModel):
    """One model and its replicas."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "demo"  # as `slotmux serve` takes it
    replicas: int = Field(1, ge=1)  # the fewest, with max_replicas
    max_replicas: int = Field(0, ge=0)  # beyond replicas: as many as ongoing requests ask for
    cores: int = Field(1, ge=1)  # physical cores of one replica
    routing: Routing = "prefix"
    drain_timeout: float = Field(600.0, gt=0)  # seconds that running answers get
    max_surge_percent: int = Field(0, ge=0, le=100)  # further replicas while all are replaced
    host: str = ""  # where fronts reach a replica; empty = the address that Ray has of its node
    resources: dict[str, float] = {}  # further resources of Ray that a replica needs
    settings: dict[str, Any] = {}  # settings of `slotmux serve` by their names: parallel, ctx_size

    @model_validator(mode="after")
    def _check(self) -> Self:
        ours = _OURS & set(self.settings)
        if ours:
            raise ValueError(f"settings: {sorted(ours)[0]} is the replica's own choice")
        return self

    def settings_at(self, host: str, name: str = DEFAULT_NAME) -> Settings:
        """The settings of a replica of ``name`` that listens on ``host``. Raises SettingsError."""
        alias = () if name == DEFAULT_NAME else (name,)
        return load_settings(
            **({"log_format": "json", "alias": alias} | self.settings),
            model=self.model,
            host=host,
            threads=self.cores,
        )

    @property
    def n_slots(self) -> int:
        """Requests that one replica runs at once."""
        return self.settings_at("localhost").parallel

    @property
    def n_ongoing(self) -> int:
        """Requests that one replica may have: in slots and in its queue."""
        return self.n_slots + self.settings_at("localhost").max_queue


class Options(BaseModel):
    """An application: models by the names that requests call them by."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: dict[str, ModelOptions] = Field(min_length=1)
    path: Path = "front"
    fronts: int = Field(1, ge=1)  # processes that relay

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.path == "ingress" and len(self.models) > 1:
            raise ValueError("path: 'ingress' serves one model; 'front' chooses among several")
        return self

    @property
    def n_cores(self) -> int:
        """Of all replicas that there may be."""
        return sum(max(m.replicas, m.max_replicas) * m.cores for m in self.models.values())

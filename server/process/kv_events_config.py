"""--kv-events-config: whether and where events of the prefix cache are published, as for vLLM."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_ENDPOINT = r"^(tcp|ipc|inproc)://\S+$"


class KvEventsConfig(BaseModel):
    """Fields and defaults are vLLM's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enable_kv_cache_events: bool = False
    publisher: Literal["null", "zmq"] | None = None  # None: zmq where events are enabled
    endpoint: str = Field("tcp://*:5557", pattern=_ENDPOINT)
    replay_endpoint: str | None = Field(None, pattern=_ENDPOINT)
    buffer_steps: int = Field(10_000, ge=0, le=1_000_000)  # batches kept for replay
    hwm: int = Field(100_000, ge=0, le=10_000_000)  # ZeroMQ's bound of messages for a slow reader
    max_queue_size: int = Field(100_000, ge=1, le=10_000_000)  # batches that wait to be sent
    topic: str = Field("", max_length=1024)

    @property
    def is_on(self) -> bool:
        """Whether anything is to be published."""
        return self.enable_kv_cache_events and self.publisher != "null"


def parse_kv_events_config(text: str) -> KvEventsConfig:
    """Raises ValueError that names the field."""
    try:
        return KvEventsConfig.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None

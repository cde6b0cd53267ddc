"""What the operator says about serving several models; none of it matters where one is served."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from slotmux.server.schemas.durations import seconds_of


class ModelsSettings(BaseModel):
    """Fields of Settings, those of llama-server named as there."""

    models_dir: Path | None = None  # whose GGUF files are served
    models_config: Path | None = None  # models and their options: .ini, .toml or .json
    models_max: int = Field(0, ge=0, le=1000)  # loaded at the same time; 0 = as memory allows
    models_autoload: bool = True  # a request loads the model that it names
    keep_alive: str = "5m"  # how long an idle model stays loaded; -1 = until memory is needed
    load_timeout: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 600.0

    @property
    def serves_several(self) -> bool:
        """Whether models are chosen by requests, each in a process of its own."""
        return self.models_dir is not None or self.models_config is not None

    @property
    def keep_alive_s(self) -> float:
        """Seconds; math.inf is forever."""
        return seconds_of(self.keep_alive)

    @model_validator(mode="after")
    def _check_models(self) -> Self:
        if self.models_dir is not None and not self.models_dir.is_dir():
            raise ValueError("models_dir: there is no such folder")
        if self.models_config is not None and not self.models_config.is_file():
            raise ValueError("models_config: there is no such file")
        try:
            _ = self.keep_alive_s
        except ValueError as error:
            raise ValueError(f"keep_alive: {error}") from None
        return self

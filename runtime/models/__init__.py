"""One file per architecture family: its layers, in the words of its model card.

A family is a function ``lower(b, hp) -> Rows`` that appends the ops of all layers and returns
the hidden rows to take logits from (before the final norm). Tensor names are the file's.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, TypeAlias

from runtime.gguf import GGUFFile, ModelFileError

if TYPE_CHECKING:
    from runtime.lowering.buffers import Rows
    from runtime.lowering.builder import Builder
    from runtime.models.hparams import Hparams

Lower: TypeAlias = "Callable[[Builder, Hparams], Rows]"

# GGUF architecture -> module of this package.
FAMILIES = {
    "llama": "llama",
    "qwen2": "qwen",
    "qwen3": "qwen",
    "qwen3moe": "qwen3moe",
    "qwen3next": "qwen_hybrid",
    "qwen35": "qwen_hybrid",
    "qwen35moe": "qwen_hybrid",
    "gemma3": "gemma3",
}


def family(file: GGUFFile) -> Lower:
    """The lowering of a file's architecture; ModelFileError if there is none."""
    name = FAMILIES.get(file.architecture)
    if name is None:
        known = ", ".join(sorted(FAMILIES))
        raise ModelFileError(
            "general.architecture",
            file.metadata.offset("general.architecture"),
            f"{file.architecture!r} is not supported (supported: {known})",
        )
    lower: Lower = import_module(f"runtime.models.{name}").lower
    return lower

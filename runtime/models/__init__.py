"""One file per architecture family: its layers, in the words of its model card.

A family's module has a function ``lower(b, hp) -> Rows`` that appends the ops of all layers and
returns the hidden rows to take logits from (before the final norm), and, where blocks.output_head
will not do, ``head(b, hp, x, capacity) -> Rows`` for the logits. Tensor names are the file's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from slotmux.runtime.gguf import GGUFFile, ModelFileError

if TYPE_CHECKING:
    from slotmux.runtime.lowering.buffers import Rows
    from slotmux.runtime.lowering.builder import Builder
    from slotmux.runtime.models.hparams import Hparams

Lower: TypeAlias = "Callable[[Builder, Hparams], Rows]"
Head: TypeAlias = "Callable[[Builder, Hparams, Rows, int], Rows]"


@dataclass(frozen=True, slots=True)
class Family:
    """How an architecture is lowered: its layers, and the logits of at most n output rows.

    ``mtp``: the module that lowers its block for multi-token prediction, if it may have one; it has
    the functions of qwen_mtp.py.
    """

    lower: Lower
    head: Head
    mtp: Any = None


# GGUF architecture -> module of this package.
FAMILIES = {
    "llama": "dense.llama",
    "qwen2": "dense.qwen",
    "qwen3": "dense.qwen",
    "qwen3moe": "dense.qwen3moe",
    "qwen3next": "hybrid.qwen_hybrid",
    "qwen35": "hybrid.qwen_hybrid",
    "qwen35moe": "hybrid.qwen_hybrid",
    "gemma3": "dense.gemma3",
    "lfm2": "hybrid.lfm2",
    "lfm2moe": "hybrid.lfm2",
    "rwkv6": "recurrent.rwkv6",
    "rwkv7": "recurrent.rwkv7",
    "phi2": "dense.phi2",
    "phi3": "dense.phi3",
    "granite": "dense.granite",
    "granitemoe": "dense.granite",
    "smollm3": "dense.smollm3",
    "mamba": "recurrent.mamba",
    "mamba2": "recurrent.mamba",
    "jamba": "hybrid.jamba",
    "granitehybrid": "hybrid.granite_hybrid",
    "falcon-h1": "hybrid.falcon_h1",
    "nemotron_h": "hybrid.nemotron_h",
    "nemotron_h_moe": "hybrid.nemotron_h",
}


def has_mtp(file: GGUFFile) -> bool:
    """Whether a file has a block for multi-token prediction that we can run."""
    arch, metadata = file.architecture, file.metadata
    if metadata.get_u32(f"{arch}.nextn_predict_layers", 0) != 1 or family(file).mtp is None:
        return False
    block = metadata.get_u32(f"{arch}.block_count") - 1
    return f"blk.{block}.nextn.eh_proj.weight" in file.tensors


def family(file: GGUFFile) -> Family:
    """The lowering of a file's architecture; ModelFileError if there is none."""
    name = FAMILIES.get(file.architecture)
    if name is None:
        known = ", ".join(sorted(FAMILIES))
        raise ModelFileError(
            "general.architecture",
            file.metadata.offset("general.architecture"),
            f"{file.architecture!r} is not supported (supported: {known})",
        )
    module = import_module(f"slotmux.runtime.models.{name}")
    default = import_module("slotmux.runtime.models.blocks").output_head
    mtp = (
        import_module("slotmux.runtime.models.hybrid.qwen_mtp")
        if name == "hybrid.qwen_hybrid"
        else None
    )
    return Family(module.lower, getattr(module, "head", default), mtp)

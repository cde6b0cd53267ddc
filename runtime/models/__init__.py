"""One file per architecture family: its layers, in the words of its model card.

A family's module has a function ``lower(b, hp) -> Rows`` that appends the ops of all layers and
returns the hidden rows to take logits from (before the final norm), and, where blocks.output_head
will not do, ``head(b, hp, x, capacity) -> Rows`` for the logits. Tensor names are the file's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from slotmux.runtime.gguf import GGUFFile

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


_DRAFT_KEY = "nextn_predict_layers"
_NEXTN = re.compile(r"blk\.(\d{1,6})\.nextn\.")

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


# What a file of another kind than a language model is, by its architecture or general.type.
_OTHER_KINDS = {
    "clip": "a vision or audio projector (mmproj), the companion of a language model:"
    " give the model's own file; images and sound are not supported",
    "mmproj": "a vision or audio projector (mmproj), the companion of a language model:"
    " give the model's own file; images and sound are not supported",
    "adapter": "a LoRA adapter, not a model: merge it into its base model and convert that",
    "imatrix": "an importance matrix for quantising, not a model",
    "vocab": "a vocabulary without a model",
}


def check_architecture(file: GGUFFile) -> str:
    """The module of a file's architecture; ModelFileError, which says what it is instead, if there
    is none."""
    kind = file.metadata.tolerant("general.type", "model", file.metadata.get_str)
    for key, value in (("general.architecture", file.architecture), ("general.type", kind)):
        if value in _OTHER_KINDS:
            file.metadata.refuse(key, f"this is {_OTHER_KINDS[value]}")
    name = FAMILIES.get(file.architecture)
    if name is None:
        known = ", ".join(sorted(FAMILIES))
        reason = f"{file.architecture!r} is not supported (supported: {known})"
        file.metadata.refuse("general.architecture", reason)
    return name


def n_draft_blocks(file: GGUFFile, n_blocks: int) -> int:
    """Blocks behind the trunk that predict further tokens.

    Those at the end with tensors of such a block; where none has any, what the file's key says.
    """
    named = {int(found[1]) for found in map(_NEXTN.match, file.tensors) if found}
    n_named = next((n for n in range(n_blocks) if n_blocks - 1 - n not in named), n_blocks - 1)
    n_stored = _n_stored(file, n_blocks)
    if n_named and n_stored != n_named:
        what = f"{n_stored}, but {n_named} blocks hold such tensors; served without drafts"
        file.metadata.warn(f"{file.architecture}.{_DRAFT_KEY}", what)
    return n_named or n_stored


def _n_stored(file: GGUFFile, n_blocks: int) -> int:
    key = f"{file.architecture}.{_DRAFT_KEY}"

    def read(key: str, default: int) -> int:
        return file.metadata.get_u32(key, default, 0, n_blocks - 1)

    return file.metadata.tolerant(key, 0, read)


def has_mtp(file: GGUFFile) -> bool:
    """Whether a file says that it has a block for multi-token prediction of a kind that we run.
    What is wrong with the block shows when it is lowered."""
    if family(file).mtp is None:
        return False
    n_blocks = file.metadata.get_u32(f"{file.architecture}.block_count", low=1)
    if _n_stored(file, n_blocks) != 1:
        return False
    return any(name.startswith(f"blk.{n_blocks - 1}.nextn.") for name in file.tensors)


def family(file: GGUFFile) -> Family:
    """The lowering of a file's architecture; ModelFileError if there is none."""
    name = check_architecture(file)
    module = import_module(f"slotmux.runtime.models.{name}")
    default = import_module("slotmux.runtime.models.blocks").output_head
    mtp = (
        import_module("slotmux.runtime.models.hybrid.qwen_mtp")
        if name == "hybrid.qwen_hybrid"
        else None
    )
    return Family(module.lower, getattr(module, "head", default), mtp)

"""One file per architecture family: its layers, in the words of its model card.

A family's module has a function ``lower(b, hp) -> Rows`` that appends the ops of all layers and
returns the hidden rows to take logits from (before the final norm), and, where blocks.output_head
will not do, ``head(b, hp, x, capacity) -> Rows`` for the logits, with ``normed`` for what they are
made of. Tensor names are the file's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, TypeAlias

from slotmux.runtime.gguf import GGUFFile
from slotmux.runtime.models.architectures import check_architecture, n_stored_draft_blocks

if TYPE_CHECKING:
    from slotmux.kernels.operands import State
    from slotmux.runtime.lowering.buffers import Rows
    from slotmux.runtime.lowering.builder import Builder
    from slotmux.runtime.lowering.pooling import RankHead
    from slotmux.runtime.lowering.weights import Panels
    from slotmux.runtime.models.hparams import Hparams

Lower: TypeAlias = "Callable[[Builder, Hparams], Rows]"
Head: TypeAlias = "Callable[[Builder, Hparams, Rows, int], Rows]"


class DraftBlock(Protocol):
    """The module of a block for multi-token prediction: the functions of qwen_mtp.py."""

    def keep_past(self, b: Builder, hp: Hparams, x: Rows) -> State:
        """In the trunk's program: what the block keeps of the tokens of a step."""

    def guess(self, b: Builder, hp: Hparams, hidden: Rows) -> None:
        """In the block's own program: the layers that guess one token more."""

    def head(self, b: Builder, hp: Hparams) -> Panels:
        """The matrix that gives the logits of a guess."""


# Module of a family -> module of its block for multi-token prediction.
MTP = {
    "hybrid.qwen_hybrid": "hybrid.qwen_mtp",
    "hybrid.nemotron_h": "hybrid.nemotron_mtp",
    "latent.deepseek2": "latent.mtp",
    "latent.kda_hybrid": "latent.mtp",
}


@dataclass(frozen=True, slots=True)
class Family:
    """How an architecture is lowered: its layers, and the logits of at most n output rows.

    ``mtp``: what lowers its block for multi-token prediction, if it may have one.
    """

    lower: Lower
    head: Head
    normed: Head  # the rows of at most n outputs before the head, which texts' vectors are made of
    mtp: DraftBlock | None = None
    rank: RankHead | None = None  # of an encoder that scores in its own way


def has_mtp(file: GGUFFile) -> bool:
    """Whether a file says that it has a block for multi-token prediction of a kind that we run.
    What is wrong with the block shows when it is lowered."""
    if family(file).mtp is None:
        return False
    n_blocks = file.metadata.get_u32(f"{file.architecture}.block_count", low=1)
    if n_stored_draft_blocks(file, n_blocks) != 1:
        return False
    return any(name.startswith(f"blk.{n_blocks - 1}.nextn.") for name in file.tensors)


def is_encoder(file: GGUFFile) -> bool:
    """Whether a file's architecture reads whole texts and gives vectors, not tokens; ModelFileError
    if it is none that we run."""
    return check_architecture(file).startswith("encoders.")


def family(file: GGUFFile) -> Family:
    """The lowering of a file's architecture; ModelFileError if there is none."""
    name = check_architecture(file)
    module = import_module(f"slotmux.runtime.models.{name}")
    blocks = import_module("slotmux.runtime.models.blocks")
    mtp = import_module(f"slotmux.runtime.models.{MTP[name]}") if name in MTP else None
    return Family(
        module.lower,
        getattr(module, "head", blocks.output_head),
        # A family with a head of its own says itself what stands before it.
        getattr(module, "normed", blocks.output_norm),
        mtp,
        getattr(module, "RANK_HEAD", None),
    )

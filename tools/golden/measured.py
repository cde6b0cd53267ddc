"""What a recipe gave: a file, two references, and how well they agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tools.golden.recipe import AnyRecipe
from tools.golden.references.logits import F32, Distance, kept_rows
from tools.golden.references.quantised import Quantised

N_SECOND = 8
RELATIVE_TOLERANCE = 1e-3
# llama.cpp's table of GELU in half precision costs this much at most, measured on real shapes.
GELU_DISAGREEMENT = 1e-2


class DisagreementError(RuntimeError):
    """The two references are not the same function."""


@dataclass(frozen=True, slots=True)
class Drafted:
    """A block's drafts for one prompt, from both sides.

    ``trunk``, ``hidden``, ``lcpp``, ``hf`` are [tokens, ...], the chains [N_DRAFT, vocabulary].
    """

    trunk: F32
    hidden: F32
    lcpp: F32
    hf: F32
    ids: list[int]
    chain_lcpp: F32
    chain_hf: F32

    @property
    def max_abs(self) -> float:
        """The larger of the differences of logits, in the kept rows and in the chain."""
        rows = kept_rows(len(self.lcpp))
        return max(
            Distance.of(self.hf[rows], self.lcpp[rows]).max_abs,
            Distance.of(self.chain_hf, self.chain_lcpp).max_abs,
        )


@dataclass(slots=True)
class Measured:
    """All of one golden model. ``hf``, ``lcpp`` and ``stepped`` have the kept rows of prompts."""

    recipe: AnyRecipe
    path: Path  # the float32 file
    checkpoint: Path | None  # of a BPE vocabulary
    n_parameters: int
    prompts: list[list[int]]
    hf: list[F32]
    lcpp: list[F32]
    stepped: list[F32]
    drafted: list[Drafted] = field(default_factory=list)
    quantised: list[Quantised] = field(default_factory=list)

    def distances(self) -> list[Distance]:
        return [
            Distance.of(hf, lcpp[:, : hf.shape[1]])
            for hf, lcpp in zip(self.hf, self.lcpp, strict=True)
        ]

    @property
    def deviation(self) -> float:
        """Of the logits, the largest of the prompts'."""
        return max(d.deviation for d in self.distances())

    @property
    def max_abs(self) -> float:
        """The largest difference of the two references."""
        return max(d.max_abs for d in self.distances())

    @property
    def argmax_agree(self) -> float:
        return min(d.argmax_agree for d in self.distances())

    @property
    def stepped_max_abs(self) -> float:
        """llama.cpp token by token against itself in one batch."""
        pairs = zip(self.stepped, self.lcpp, strict=True)
        return max(Distance.of(stepped, whole).max_abs for stepped, whole in pairs)

    @property
    def tolerance(self) -> float:
        """What a logit of ours may be off."""
        return RELATIVE_TOLERANCE * self.deviation

    def check(self) -> None:
        """Raise DisagreementError unless the references agree to well within the tolerance."""
        gelu = self.recipe.looks_up_gelu
        allowed = GELU_DISAGREEMENT if gelu else RELATIVE_TOLERANCE / 5
        allowed = max(allowed, self.recipe.known_difference) * self.deviation
        worst = max([self.max_abs, self.stepped_max_abs, *(d.max_abs for d in self.drafted)])
        if not np.isfinite(worst) or worst > allowed:
            raise DisagreementError(
                f"{self.recipe.name}: logits of {self.recipe.hf_class} and llama.cpp differ by "
                f"{self.max_abs:.1e} (allowed {allowed:.1e}), llama.cpp token by token by "
                f"{self.stepped_max_abs:.1e}, drafts by "
                f"{max([0.0, *(d.max_abs for d in self.drafted)]):.1e}"
            )

    def arrays(self) -> dict[str, object]:
        """The arrays of reference.npz."""
        out: dict[str, object] = {}
        for i, prompt in enumerate(self.prompts):
            rows = np.asarray(kept_rows(len(prompt)), np.int32)
            out[f"ids{i}"], out[f"rows{i}"] = np.asarray(prompt, np.int32), rows
            out[f"hf{i}"] = self.hf[i]
            n = len(rows) if self.recipe.looks_up_gelu else min(N_SECOND, len(rows))
            out[f"lrows{i}"], out[f"lcpp{i}"] = rows[-n:], self.lcpp[i][-n:]
        for i, drafted in enumerate(self.drafted):
            rows = np.asarray(kept_rows(len(self.prompts[i])), np.int32)[-N_SECOND:]
            out[f"mtp_rows{i}"] = rows
            out[f"mtp_h{i}"], out[f"mtp_lcpp{i}"] = drafted.trunk[rows], drafted.lcpp[rows]
            out[f"mtp_hmtp{i}"], out[f"mtp_hf{i}"] = drafted.hidden[rows], drafted.hf[rows]
            out[f"mtp_draft_ids{i}"] = np.asarray(drafted.ids, np.int32)
            out[f"mtp_draft_lcpp{i}"] = drafted.chain_lcpp
            out[f"mtp_draft_hf{i}"] = drafted.chain_hf
        return out

"""From a plan to a model in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slotmux.server.loading.plan import Plan
from slotmux.server.loading.progress import ProgressDisplay

if TYPE_CHECKING:
    from slotmux.runtime.encoder import Encoder
    from slotmux.runtime.model import Model


def load(plan: Plan) -> Model:
    """Load a model as planned, with a progress display. Raises a SlotmuxError for a file that
    cannot be used, and CommandError, before anything is loaded, when it would not fit."""
    from slotmux.runtime.model import load_model

    plan.check()
    with ProgressDisplay() as progress:
        return load_model(plan.path, plan.model, progress)


def load_texts(plan: Plan) -> Encoder:
    """The same of a model that reads whole texts and gives vectors."""
    from slotmux.runtime.encoder import load_encoder

    plan.check()
    with ProgressDisplay() as progress:
        return load_encoder(plan.path, plan.model, progress)

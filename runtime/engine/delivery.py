"""Taking a step's outputs to whoever asked for them, while the next step already computes.

Text is made from tokens here, too, where nothing but text is wanted of them: that a choice goes on
is known without it.
"""

from __future__ import annotations

import logging

from slotmux.runtime.engine.choice import Choice, Job

log = logging.getLogger(__name__)


class Delivery:
    """Outputs on their way. Engine thread only.

    ``outbox``: jobs with outputs. What fails is its own request's fault and found in ``failed``
    (jobs whose receiver raised) and ``broken`` (choices whose text cannot be made): they are to be
    ended when nothing computes, as their memory is then freed.
    """

    def __init__(self) -> None:
        self.outbox: list[Job] = []
        self.failed: list[Job] = []
        self.broken: list[Choice] = []
        self._unsent: list[Choice] = []

    def add(self, choice: Choice, tokens: tuple[int, ...]) -> None:
        """A choice has generated tokens, and goes on."""
        choice.unsent = tokens
        self._unsent.append(choice)

    def deliver(self) -> list[Job]:
        """Hand each job its outputs, in one call; returns the jobs that are over with it."""
        for choice in self._unsent:
            try:
                choice.send_unsent()
            except Exception:
                log.exception("request %d: its output failed", choice.job.request.id)
                self.broken.append(choice)
        self._unsent.clear()
        over = []
        for job in self.outbox:
            outputs = job.outputs
            job.outputs = []
            if not job.n_unfinished:
                over.append(job)
            try:
                job.request.on_output(job.request, outputs)
            except Exception:
                log.exception("request %d: its receiver failed", job.request.id)
                job.outputs = outputs  # not empty: what else it sends does not reach the outbox
                self.failed.append(job)
        self.outbox.clear()
        return over

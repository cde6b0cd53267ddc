"""``best_of``: more choices are generated than given back; the likeliest ones win."""

from __future__ import annotations

import math
from typing import Any

from slotmux.runtime.engine.request import Output
from slotmux.server.answers.answer import Answer, whole_answer
from slotmux.server.answers.chunks import ChunkWriter
from slotmux.server.answers.generation import ChoiceOutput, Generation


class BestOfWriter(ChunkWriter):
    """Of each prompt's ``n_generated`` choices, tells the ``answer.n`` with the highest mean
    log-probability of a token, best first. Never streamed; every token counts in ``usage``."""

    def __init__(self, answer: Answer, n_generated: int) -> None:
        super().__init__(answer)
        self._n_generated = n_generated
        self.n_left = n_generated * len(answer.prompts)
        self._all: list[list[Output]] = [[] for _ in range(self.n_left)]

    def take(self, choices: list[ChoiceOutput], generation: Generation) -> None:
        """Keeps Outputs for ``whole``."""
        for index, output in choices:
            self._all[index].append(output)
            self.n_left -= output.finish_reason is not None

    def whole(self, generation: Generation) -> dict[str, Any]:
        """The body with the best choices."""
        picked: list[int] = []
        for begin in range(0, len(self._all), self._n_generated):
            own = range(begin, begin + self._n_generated)
            best = sorted(own, key=lambda i: -mean_logprob(self._all[i]))
            picked += best[: self._answer.n]
        return whole_answer(self._answer, generation, self._all, picked)


def mean_logprob(outputs: list[Output]) -> float:
    """Of the tokens of one choice; one without any is the worst."""
    values = [entry.logprob for output in outputs for entry in output.logprobs]
    return math.fsum(values) / len(values) if values else -math.inf

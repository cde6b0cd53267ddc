"""How many prompt tokens a step may take, so that it does not take too long.

Costs are learnt from the steps themselves: seconds of a step without prompt tokens, and seconds
that each prompt token adds. Both move slowly, and a single reading counts for four times the
estimate at most: the machine is not alone. What a prompt costs grows with its depth, and the
estimate follows.

Answers do not depend on where a prompt is cut.
"""

from __future__ import annotations

# Beside generating requests a step may take as long as this many plain ones, or the operator's
# bound if that is more: a token then comes late, but not so late that a reader sees a pause.
PLAIN_STEPS = 4
# Of a step of prompts alone: aborts and newcomers take effect between steps.
ALONE_S = 1.0
# Fewer tokens than a tile of rows cost as much as one.
LEAST_BESIDE, LEAST_ALONE = 8, 64
_WEIGHT = 0.2  # of a new reading
_MOST = 4.0


class Pace:
    """Learns what steps cost and bounds the prompt tokens of the next one. Engine thread only.

    ``max_step_s``: the operator's bound on a step beside generating requests; 0 = none.
    """

    __slots__ = ("_max_step_s", "plain_s", "token_s")

    def __init__(self, max_step_s: float) -> None:
        self._max_step_s = max_step_s
        self.plain_s = self.token_s = 0.0  # 0 = not known yet

    def observe(self, n_prompt: int, has_generating: bool, seconds: float) -> None:
        """A step with ``n_prompt`` prompt tokens took ``seconds``."""
        if not n_prompt:
            self.plain_s = mixed(self.plain_s, seconds)
            return
        rest = seconds - self.plain_s if has_generating else seconds
        if rest > 0.0:
            self.token_s = mixed(self.token_s, rest / n_prompt)

    def most_beside(self) -> int:
        """Prompt tokens of a step beside generating requests; -1 = no bound."""
        if not self._max_step_s or not self.token_s:
            return -1
        budget = max(self._max_step_s, PLAIN_STEPS * self.plain_s) - self.plain_s
        return max(LEAST_BESIDE, int(budget / self.token_s) // 8 * 8)

    def most_alone(self) -> int:
        """Prompt tokens of a step where nobody generates; -1 = no bound."""
        if not self._max_step_s or not self.token_s:
            return -1
        return max(LEAST_ALONE, int(ALONE_S / self.token_s) // 8 * 8)


def mixed(estimate: float, reading: float) -> float:
    """A running estimate (0: none yet) moved a little towards a new reading."""
    if not estimate:
        return reading
    reading = min(max(reading, estimate / _MOST), estimate * _MOST)
    return estimate + _WEIGHT * (reading - estimate)

"""Log-probabilities of a prompt's tokens: log-softmax of the logits that every position has.

The logits are those of the driver (`slotmux logits`), whose rows are computed in another way: all
outputs of one forward. Here they come from the residual stream that a forward left behind.
"""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.runtime.driver import Driver, logits_of
from slotmux.runtime.prompt_logprobs import PromptLogprobs
from tests.architectures import ALL
from tests.reference.sampling import logprobs
from tests.runtime.models.isolation import golden, loaded

N_TOP = 20


def scored(model, tokens, cuts, n_top=N_TOP):
    """Scores of each token but the first, and the last forward's rows asked in parts."""
    driver = Driver(model)
    driver.open(3)
    out = PromptLogprobs.empty(len(tokens) - 1, n_top)
    begin = 0
    for n in cuts:
        run = tokens[begin : begin + n]
        driver.step([(3, run)], outputs="last")
        rows = np.arange(min(n, len(tokens) - 1 - begin), dtype=np.int32)
        targets = np.array(tokens[begin + 1 : begin + 1 + len(rows)], np.int32)
        tops = np.full(len(rows), n_top, np.int32)
        model.score(rows, targets, tops, out.part(begin, begin + len(rows)))
        begin += n
    driver.close(3)
    return out


@pytest.mark.parametrize("name", ALL)
def test_scores_are_the_log_softmax_of_the_logits(name, kernel_cache_dir):
    reference = golden(name)
    tokens = reference.prompts[2][:100]
    with loaded(reference.path, kernel_cache_dir, n_ubatch=128, n_outputs=128) as model:
        want = logits_of(model, tokens)
    with loaded(reference.path, kernel_cache_dir, n_ubatch=128, n_outputs=8) as model:
        whole = scored(model, tokens, [100])
        pieces = scored(model, tokens, [1, 63, 7, 29])
        plain = scored(model, tokens, [100], n_top=0)
        again = logits_of(model, tokens[:40])
    assert (again == want[:40]).all(), "scoring changed what a forward computes"
    for i in range(99):
        row = want[i]
        logp = logprobs(row)
        assert abs(whole.logprobs[i] - logp[tokens[i + 1]]) < 2e-5
        assert whole.ranks[i] == (row >= row[tokens[i + 1]]).sum()
        best = np.lexsort((np.arange(len(row)), -row))[:N_TOP]
        assert whole.top_ids[i].tolist() == best.tolist()
        assert np.abs(whole.top_logprobs[i] - logp[best]).max() < 2e-5
    for a, b in ((whole.logprobs, pieces.logprobs), (whole.top_logprobs, pieces.top_logprobs)):
        assert a.tobytes() == b.tobytes()
    assert whole.logprobs.tobytes() == plain.logprobs.tobytes()
    assert (whole.top_ids == pieces.top_ids).all()

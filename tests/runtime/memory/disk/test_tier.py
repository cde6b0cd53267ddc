"""What one server has computed the next one finds on disk, and goes on from as if it had computed
it itself."""

import pytest

from tests.runtime.engine.test_core import KINDS, prompt_of


@pytest.mark.parametrize("kind", KINDS)
def test_a_conversation_goes_on_after_a_restart(kind, serve):
    first = serve(kind)
    prompt = prompt_of(70).tolist()
    n, receiver = first.computed(prompt, max_tokens=9, ignore_eos=True)
    assert n >= 70
    first.close()
    second = serve(kind)
    history = prompt + receiver.tokens[0] + [1, 2, 3]
    n, receiver = second.computed(history, max_tokens=5, ignore_eos=True)
    usage = receiver.last[0].usage
    assert usage.n_disk == usage.n_cached
    assert usage.n_cached >= (64 if kind == "attention" else 70 + 9 - 1)
    assert n == len(history) - usage.n_cached + 4
    stats = second.tier.stats()
    assert stats.n_read_bytes > 0
    assert stats.n_read_blocks == (0 if kind == "recurrent" else 4)
    assert stats.n_read_states == (0 if kind == "attention" else 1)
    assert not stats.faults

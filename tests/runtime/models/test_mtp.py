"""The block for multi-token prediction: outside references, and the same guesses in any company."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.runtime.driver import Driver
from slotmux.runtime.engine.request import SamplingParams
from slotmux.runtime.lowering import drafts
from tests.architectures import WITH_MTP
from tests.runtime.models.isolation import golden, loaded

GREEDY = SamplingParams(temperature=0.0)


def greedy(model, driver):
    """Every slot draws the most likely token."""
    for sequence in driver.memory.sequences:
        model.sampling.set(sequence.slot, GREEDY, sequence.history, frozenset(), 0)


@pytest.mark.parametrize("source", ["hf", "lcpp"])
@pytest.mark.parametrize("name", WITH_MTP)
def test_golden_guesses(name, source, kernel_cache_dir):
    reference = golden(name)
    arrays = reference.arrays
    with loaded(reference.path, kernel_cache_dir, max_drafts=4, use_mtp=True) as model:
        for i, prompt in enumerate(reference.prompts):
            driver = Driver(model, poison=True)
            greedy(model, driver)
            driver.open(0)
            rows = []
            for token in prompt:
                driver.guess([(0, 1, token)])
                rows.append(model.drafter.logits[0].copy())
                driver.feed([(0, [token])])
            want = arrays[f"mtp_{source}{i}"]
            got = np.array(rows)[arrays[f"mtp_rows{i}"]]
            assert np.abs(got - want).max() <= reference.tolerance
            ids = arrays[f"mtp_draft_ids{i}"].tolist()
            for n in range(1, 5):
                tokens, _ = driver.guess([(0, n, ids[0])])
                assert tokens[:, 0].tolist() == ids[1 : n + 1]
                want = arrays[f"mtp_draft_{source}{i}"][n - 1]
                assert np.abs(model.drafter.logits[0] - want).max() <= reference.tolerance
            driver.close(0)


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("name", WITH_MTP)
def test_same_guesses_in_any_company(name, n_threads, kernel_cache_dir):
    """However the prompt was cut and who else guesses: the same logprobs, bit for bit."""
    reference = golden(name)
    prompts = [*reference.prompts, reference.prompts[1][:9]]
    counts = [4, 3, 3, 1]
    with loaded(
        reference.path, kernel_cache_dir, n_threads=n_threads, max_drafts=4, use_mtp=True
    ) as model:
        driver = Driver(model, poison=True)
        greedy(model, driver)
        alone = []
        for prompt, n in zip(prompts, counts, strict=True):
            driver.open(0)
            driver.feed([(0, prompt[:-1])])
            alone.append(driver.guess([(0, n, prompt[-1])]))
            driver.close(0)
        slots = [6, 1, 4, 2]
        for slot in slots:
            driver.open(slot)
        left = {slot: list(p[:-1]) for slot, p in zip(slots, prompts, strict=True)}
        while runs := [(slot, rest[:5]) for slot, rest in left.items() if rest]:
            driver.feed(runs)
            left = {slot: rest[5:] for slot, rest in left.items()}
        wanted = [(s, n, p[-1]) for s, n, p in zip(slots, counts, prompts, strict=True)]
        tokens, logprobs = driver.guess(wanted)
        for i, n in enumerate(counts):
            assert np.array_equal(tokens[:n, i], alone[i][0][:, 0])
            bits = logprobs[:n, i].view(np.int32)
            assert np.array_equal(bits, alone[i][1][:, 0].view(np.int32))


@pytest.mark.parametrize("name", WITH_MTP)
def test_guesses_after_rejected_drafts(name, kernel_cache_dir):
    """What a rejected draft wrote into the block's cells and the row is not seen."""
    reference = golden(name)
    prompt = reference.prompts[1]
    with loaded(reference.path, kernel_cache_dir, max_drafts=4, use_mtp=True) as model:
        driver = Driver(model, poison=True)
        greedy(model, driver)
        driver.open(0)
        driver.feed([(0, prompt[:-1])])
        want = driver.guess([(0, 4, prompt[-1])])
        driver.open(3)
        driver.feed([(3, prompt[:20])])
        driver.guess([(3, 4, 5)])
        driver.feed([(3, [*prompt[20:22], 7, 8])], drafts=[(3, 1)])
        driver.guess([(3, 4, 6)])
        driver.feed([(3, [*prompt[22:24], 9, 9])], drafts=[(2, 0)])
        driver.feed([(3, prompt[24:-1])], drafts=[(2, 2)])
        got = driver.guess([(3, 4, prompt[-1])])
        assert np.array_equal(got[0], want[0])
        assert np.array_equal(got[1].view(np.int32), want[1].view(np.int32))


def test_a_short_pass_looks_at_the_first_tokens_only(kernel_cache_dir, monkeypatch):
    """And at all of them again afterwards, and back: nothing is left over from either."""
    monkeypatch.setattr(drafts, "SHORT_VOCAB", 96)
    reference = golden("qwen35")
    with loaded(reference.path, kernel_cache_dir, max_drafts=3, use_mtp=True) as model:
        assert model.drafter.has_short
        driver = Driver(model, poison=True)
        greedy(model, driver)
        driver.open(0)
        driver.feed([(0, reference.prompts[1])])
        full, _ = driver.guess([(0, 1, 5)])
        logits = model.drafter.logits[0].copy()
        for _ in range(2):
            short, _ = driver.guess([(0, 1, 5)], is_short=True)
            assert short[0, 0] == logits[:96].argmax()
            assert np.array_equal(model.drafter.logits[0, :96], logits[:96])
            assert np.isneginf(model.drafter.logits[0, 96:]).all()
            assert (driver.guess([(0, 3, 5)], is_short=True)[0] < 96).all()
            again, _ = driver.guess([(0, 1, 5)])
            assert again[0, 0] == full[0, 0] == logits.argmax()
            assert np.array_equal(model.drafter.logits[0], logits)

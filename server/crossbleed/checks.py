"""The three checks: codeword, identical, solo. Each sends a crowd of requests at once and says
which answers show that requests got into each other's way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from slotmux.server.crossbleed.client import Answer, Client, Question, ServerRefusedError

# Requests of a crowd start within this many seconds, so that they join each other mid-answer too.
MAX_STAGGER_S = 0.05
FILLER = "The mill stood by the river, and every morning the miller opened the sluice. "


@dataclass(slots=True)
class CheckResult:
    """One check over all rounds. It passed when requests were made and none failed."""

    name: str
    n_requests: int = 0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return self.n_requests > 0 and not self.failures


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many clients, how often, and the source of everything random."""

    client: Client
    n_clients: int
    n_rounds: int
    rng: random.Random
    max_tokens: int = 32


Reply = Answer | ServerRefusedError
Check = Callable[[Crowd], Awaitable[CheckResult]]


async def check_codeword(crowd: Crowd) -> CheckResult:
    """Each client's prompt holds its own random word; no answer may hold another client's."""
    result = CheckResult("codeword")
    n_recalled = 0
    for round_number in range(crowd.n_rounds):
        words = _codewords(crowd)
        questions = [_codeword_question(crowd, word) for word in words]
        for i, answer in _answers(result, round_number, await _ask_together(crowd, questions)):
            text = answer.text.lower()
            n_recalled += words[i] in text
            strangers = [k for k, word in enumerate(words) if k != i and word in text]
            for k in strangers:
                result.failures.append(
                    f"round {round_number + 1}: client {i + 1} was given the word of client {k + 1}"
                )
    result.notes.append(f"{n_recalled} of {result.n_requests} answers hold their own word")
    if not n_recalled:
        result.notes.append("the model never repeats a word: this check says little here")
    return result


async def check_identical(crowd: Crowd) -> CheckResult:
    """All clients ask the same at once; there may be only one distinct answer."""
    result = CheckResult("identical")
    for round_number in range(crowd.n_rounds):
        prompt = f"{FILLER}Continue this story about the {_codeword(crowd.rng)} river."
        questions = [Question(prompt, crowd.max_tokens)] * crowd.n_clients
        replies = await _ask_together(crowd, questions)
        distinct = {answer.text for _, answer in _answers(result, round_number, replies)}
        if len(distinct) > 1:
            result.failures.append(f"round {round_number + 1}: {len(distinct)} distinct answers")
    return result


async def check_solo(crowd: Crowd) -> CheckResult:
    """Each answer of a crowd, with its logprobs, equals that of the same request sent alone.
    Every other round asks the crowd first, so that neither side always finds a warm cache."""
    result = CheckResult("solo")
    for round_number in range(crowd.n_rounds):
        questions = [
            Question(
                f"{FILLER * (i % 8)}Tell me about the {_codeword(crowd.rng)}.", crowd.max_tokens
            )
            for i in range(crowd.n_clients)
        ]
        if round_number % 2:
            together = await _ask_together(crowd, questions)
            alone = await _ask_alone(crowd, questions)
        else:
            alone = await _ask_alone(crowd, questions)
            together = await _ask_together(crowd, questions)
        expected = dict(_answers(result, round_number, alone))
        for i, answer in _answers(result, round_number, together):
            difference = _difference(expected[i], answer) if i in expected else None
            if difference:
                result.failures.append(f"round {round_number + 1}: client {i + 1}: {difference}")
    if not crowd.client.has_logprobs:
        result.notes.append("the server gives no logprobs: only the text was compared")
    return result


CHECKS: dict[str, Check] = {
    "codeword": check_codeword,
    "identical": check_identical,
    "solo": check_solo,
}


async def _ask_together(crowd: Crowd, questions: Sequence[Question]) -> list[Reply]:
    delays = [crowd.rng.uniform(0, MAX_STAGGER_S) if i % 2 else 0.0 for i in range(len(questions))]
    asked = (
        _ask(crowd, question, delay) for question, delay in zip(questions, delays, strict=True)
    )
    return list(await asyncio.gather(*asked))


async def _ask_alone(crowd: Crowd, questions: Sequence[Question]) -> list[Reply]:
    return [await _ask(crowd, question, 0.0) for question in questions]


async def _ask(crowd: Crowd, question: Question, delay: float) -> Reply:
    await asyncio.sleep(delay)
    try:
        return await crowd.client.ask(question)
    except ServerRefusedError as error:
        return error


def _answers(
    result: CheckResult, round_number: int, replies: Sequence[Reply]
) -> list[tuple[int, Answer]]:
    """(client, answer) of the requests that were answered; counts all, records the others."""
    result.n_requests += len(replies)
    answered = []
    for i, reply in enumerate(replies):
        if isinstance(reply, Answer):
            answered.append((i, reply))
        else:
            result.failures.append(f"round {round_number + 1}: client {i + 1}: no answer: {reply}")
    return answered


def _difference(alone: Answer, together: Answer) -> str | None:
    """How the answer in the crowd differs from the one alone, None where it does not."""
    if alone.text != together.text:
        n_equal = next(
            (n for n, (a, b) in enumerate(zip(alone.text, together.text, strict=False)) if a != b),
            min(len(alone.text), len(together.text)),
        )
        return f"the text differs from character {n_equal + 1} on"
    if alone.finish_reason != together.finish_reason:
        return f"ended with {together.finish_reason}, alone with {alone.finish_reason}"
    if alone.logprobs == together.logprobs:
        return None
    if alone.logprobs is None or together.logprobs is None:
        return "only one of the two answers has logprobs"
    pairs = list(zip(alone.logprobs, together.logprobs, strict=False))
    n_differing = sum(a != b for a, b in pairs)
    largest = max((abs(a[1] - b[1]) for a, b in pairs), default=0.0)
    return f"the logprobs of {n_differing} tokens differ, by up to {largest:.3g}"


def _codeword(rng: random.Random) -> str:
    """Ten letters that can be read aloud and that no text holds by chance."""
    return "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(5))


def _codewords(crowd: Crowd) -> list[str]:
    words: set[str] = set()
    while len(words) < crowd.n_clients:
        words.add(_codeword(crowd.rng))
    return crowd.rng.sample(sorted(words), len(words))


def _codeword_question(crowd: Crowd, word: str) -> Question:
    filler = FILLER * crowd.rng.randrange(4)  # prompts of unlike lengths share ubatches unevenly
    prompt = f"{filler}The secret word is {word}. Repeat the secret word {word} three times."
    return Question(prompt, crowd.max_tokens)

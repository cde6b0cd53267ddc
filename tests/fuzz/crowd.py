"""Random requests on a real core, step by step; each choice is then compared, bit for bit, with
itself computed alone: one slot, room for all, no cache, no drafts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from slotmux.runtime.engine.admission.admission import check_request
from slotmux.runtime.engine.config import EngineConfig
from slotmux.runtime.engine.core import Core
from slotmux.runtime.engine.request import FinishReason, Output, Request, SamplingParams
from slotmux.runtime.model import Model, load_model
from tests.fuzz.scene import Scene
from tests.runtime.engine.crowd import GREEDY, LOOSE, Answer, IdDetokenizer
from tests.runtime.engine.fake_grammar import RandomGrammar
from tests.runtime.engine.fake_model import EagerCosts
from tests.runtime.engine.sampling_choices import unusual
from tests.runtime.engine.tool_grammars import N_VOCAB, ToolGrammar, tool_grammars
from tests.runtime.models.isolation import poison

EOG = frozenset((7, 99))
MAX_WAITING = 12


@dataclass(slots=True)
class Sent:
    """A request of the crowd and what its choices got."""

    request: Request
    answers: list[Answer] = field(default_factory=list)
    is_aborted: bool = False

    @property
    def is_over(self) -> bool:
        return all(answer.reason is not None for answer in self.answers)


class Crowd:
    """Submits, aborts and steps as its random numbers say."""

    def __init__(self, scene: Scene, model: Model) -> None:
        self.scene, self.model = scene, model
        self.rng = Random(scene.seed * 7919 + 1)
        self.core = self._new_core()
        self.sent: list[Sent] = []
        self.now = 0.0

    def _new_core(self) -> Core:
        return Core(self.model, self.scene.engine_config(), EOG, IdDetokenizer, EagerCosts())

    def run(self, n_steps: int) -> None:
        """``n_steps`` steps with comings and goings, then until everybody is served."""
        for _ in range(n_steps):
            self._act()
            self._step()
        for _ in range(20_000):
            if not self.core.has_work:
                break
            self._step()
        assert not self.core.has_work, "somebody is never served"
        memory = self.core.memory
        memory.drop_cache()
        memory.check_integrity()
        assert memory.n_blocks_free == memory.n_blocks
        assert memory.n_rows_free == memory.n_rows
        assert len(self.core.admission.fairness) == 0

    def _step(self) -> None:
        self.now += 0.01
        self.core.step(self.now)
        self.core.memory.check_integrity()

    def _act(self) -> None:
        what = self.rng.random()
        if what < 0.35 and self.core.admission.n_waiting < MAX_WAITING:
            self._submit(self._request())
        elif what < 0.40 and self.sent:
            victim = self.rng.choice(self.sent)
            victim.is_aborted |= not victim.is_over
            self.core.abort(victim.request.id, self.now)
            self.core.emit()
        elif what < 0.42:
            self.core.memory.drop_cache()
        elif what < 0.45 and self.core.scheduler.active:
            self.core._park(self.rng.choice(self.core.scheduler.active))

    def _submit(self, request: Request) -> None:
        sent = Sent(request, [Answer() for _ in range(request.n)])

        def receive(_: Request, outputs: list[Output]) -> None:
            for output in outputs:
                sent.answers[output.index].take(output)

        request.on_output = receive
        request.id = len(self.sent) + 1
        n_slots, n_ctx = len(self.core.slots), self.core.memory.n_ctx
        prompt = check_request(request, n_slots, n_ctx, self.model.n_vocab)
        self.sent.append(sent)
        self.core.add(request, prompt, self.now)

    def _request(self) -> Request:
        rng, n_ctx = self.rng, self.core.memory.n_ctx
        prompt = self._prompt()[: n_ctx - 1]
        sampling = rng.choice((GREEDY, LOOSE, LOOSE))
        sampling = replace(sampling, seed=rng.randrange(1000), n_logprobs=rng.choice((-1, 0, 3)))
        if rng.random() < 0.2:
            sampling = _heavy(sampling)
        if rng.random() < 0.4:
            sampling = unusual(rng, sampling, self.scene.n_vocab)
        grammar = self._grammar()
        if isinstance(grammar, ToolGrammar):
            bias = tuple((token, 6.0) for token in grammar.triggers)
            sampling = replace(sampling, logit_bias=bias)
        return Request(
            prompt=prompt,
            sampling=sampling,
            on_output=lambda *_: None,
            max_tokens=rng.choice((0, 1, 2, 5, 17, 40, -1)),
            n_prompt_logprobs=rng.choice((-1, -1, -1, 0, 3)),
            min_tokens=0,
            n=min(rng.choice((1, 1, 1, 2, 3)), len(self.core.slots)),
            stop=rng.choice(((), (), (chr(0x4E00 + 11), chr(0x4E00 + 5) * 2))),
            stop_token_ids=rng.choice((frozenset(), frozenset((3, 20)))),
            ignore_eos=rng.random() < 0.6,
            constraint=grammar,
            cache_prompt=rng.random() < 0.85,
            cache_salt=rng.choice(("", "", "", "x")),
            slot_id=rng.choice((-1, -1, -1, -1, rng.randrange(len(self.core.slots)))),
            boundaries=tuple(sorted(rng.sample(range(1, 100), rng.choice((0, 0, 2))))),
            client=rng.choice(("", "", "a", "b")),
            priority=rng.choice((0, 0, 0, -1, 2)),
        )

    def _grammar(self) -> RandomGrammar | ToolGrammar | None:
        """For half of the requests; a few grammars, so that some meet."""
        seed = self.rng.randrange(12)
        if seed < 2 and self.scene.n_vocab >= N_VOCAB:
            return self.rng.choice(tool_grammars(EOG))
        return RandomGrammar(seed, self.scene.n_vocab, EOG) if seed < 6 else None

    def _prompt(self) -> list[int]:
        """The beginning of a known text, what followed an earlier answer, or anything."""
        rng, what = self.rng, self.rng.random()
        over = [s for s in self.sent if s.is_over and s.answers[0].tokens]
        if over and what < 0.4:
            earlier = rng.choice(over)
            turn = [rng.randrange(self.scene.n_vocab) for _ in range(rng.randint(1, 9))]
            return [*earlier.request.prompt, *earlier.answers[0].tokens, *turn]
        if what < 0.85:
            text = rng.choice(self.scene.prompts)
            return text[: rng.randint(1, len(text))]
        n_ctx = self.core.memory.n_ctx
        n = rng.choice((1, 2, 16, 17, n_ctx - 20, n_ctx - 2, n_ctx - 1))
        return [rng.randrange(self.scene.n_vocab) for _ in range(max(1, n))]


def _heavy(sampling: SamplingParams) -> SamplingParams:
    bias = ((5, 3.0), (11, -4.0), (8, 3.0))
    return replace(sampling, presence_penalty=0.7, frequency_penalty=0.3, logit_bias=bias)


def alone(scene: Scene, core: Core, request: Request, index: int, n_ctx: int) -> Answer:
    """What a choice of a request gets on a core that has nobody else."""
    answer = Answer()

    def receive(_: Request, outputs: list[Output]) -> None:
        for output in outputs:
            answer.take(output)

    seed = request.sampling.seed + index
    # The crowd's context may be less than this model's: the same length ends both.
    room = n_ctx - len(request.prompt)
    limit = room if request.max_tokens < 0 else min(request.max_tokens, room)
    lonely = replace(
        request, n=1, sampling=replace(request.sampling, seed=seed), on_output=receive,
        max_tokens=limit, cache_prompt=False, slot_id=-1, client="", priority=0,
        n_prompt_logprobs=-1 if index else request.n_prompt_logprobs,
    )  # fmt: skip
    lonely.id = 1
    core.add(lonely, check_request(lonely, 1, core.memory.n_ctx, 1 << 30), 0.0)
    for step in range(10_000):
        if not core.has_work:
            break
        core.step(step * 0.01)
    assert answer.reason is not None
    return answer


def compare(scene: Scene, crowd: Crowd, core: Core) -> int:
    """Every choice of the crowd with itself alone; returns how many were compared."""
    n_ctx, n_compared = crowd.core.memory.n_ctx, 0
    for sent in crowd.sent:
        for index, got in enumerate(sent.answers):
            want = alone(scene, core, sent.request, index, n_ctx)
            if got.reason is FinishReason.ABORT:
                assert sent.is_aborted
                n = len(got.tokens)
                assert got.tokens == want.tokens[:n], (scene, sent.request, index)
                assert got.bits[1] == want.bits[1][: len(got.logprobs)]
            else:
                assert got.bits == want.bits, f"{scene}\n{sent.request}\nchoice {index}"
            n_compared += 1
    return n_compared


def play(
    scene: Scene,
    n_steps: int,
    cache: Path,
    new_crowd: Callable[[Scene, Model], Crowd] = Crowd,
) -> tuple[int, int, Any]:
    """Run a scene; returns its steps, the choices compared and the core's counters."""
    model = load_model(scene.path, scene.model_config(cache))
    try:
        poison(model)
        crowd = new_crowd(scene, model)
        crowd.run(n_steps)
        lonely = load_model(scene.path, scene.lonely_config(cache))
        try:
            poison(lonely)
            config = EngineConfig(1, scene.n_ctx + 16, queue_timeout_s=0.0, poison_freed=True)
            n = compare(scene, crowd, Core(lonely, config, EOG, IdDetokenizer))
        finally:
            lonely.close()
    finally:
        model.close()
    counters = crowd.core.meter.counters
    return counters.n_steps, n, counters

"""Generation with speculation beside generation without, on real text, in the same process.

    python -m tests.bench.steps.spec_bench demo --streams 1,4,8 --rounds 5
    python -m tests.bench.steps.spec_bench MODEL.gguf --prompts FILE --spec-type ngram --ignore-eos

Each round has the same chats answered by an engine without speculation and by one with it, and who
begins changes; as many chats at once as there are streams, again and again. Tokens a second are
those of all streams, from when the last of them has its first token to when the first one ends.
``--prompts``: one chat a line; ``--seed`` draws instead of taking the likeliest. That both give
equal answers is checked.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from slotmux.runtime.engine.config import MTP, NGRAM, SpecConfig
from slotmux.runtime.engine.request import Output, Request, SamplingParams
from slotmux.runtime.engine.thread import Engine, EngineConfig
from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.model import Model, ModelConfig, load_model
from slotmux.runtime.models import has_mtp
from slotmux.runtime.speculation.measure import measure_costs
from slotmux.runtime.tokenizer import Tokenizer
from slotmux.server.loading.locate import locate
from slotmux.server.settings import load_settings
from slotmux.server.templates.chat_template import ChatTemplate

THINGS = (
    "cat", "river", "horse", "storm", "garden", "clock", "bridge", "fox", "lamp", "mountain",
    "boat", "baker",
)  # fmt: skip
PROMPTS = tuple(f"Tell me a short story about a {thing}." for thing in THINGS)


@dataclass
class Stream:
    """One chat's tokens with the times at which they came."""

    tokens: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def receive(self, request: Request, outputs: list[Output]) -> None:
        now = time.perf_counter()
        for output in outputs:
            self.tokens += output.token_ids
            self.times += [now] * len(output.token_ids)
            if output.usage is not None:
                self.done.set()


def submit(engine: Engine, prompt: list[int], args: argparse.Namespace) -> Stream:
    """Begin one chat."""
    stream = Stream()
    sampling = SamplingParams(temperature=0.0)
    if args.seed is not None:
        sampling = SamplingParams(temperature=args.temperature, seed=args.seed)
    engine.submit(
        Request(
            prompt,
            sampling,
            stream.receive,
            max_tokens=args.tokens,
            ignore_eos=args.ignore_eos,
            cache_prompt=False,
        )
    )
    return stream


def run(
    engine: Engine, prompts: list[list[int]], n_streams: int, args: argparse.Namespace
) -> list[list[Stream]]:
    """Every prompt begins one batch of ``n_streams`` chats."""
    batches = []
    for first in range(len(prompts)):
        batch = [
            submit(engine, prompts[(first + i) % len(prompts)], args) for i in range(n_streams)
        ]
        for stream in batch:
            assert stream.done.wait(600), "a stream did not end"
        batches.append(batch)
    return batches


def rate(batches: list[list[Stream]]) -> float:
    """Tokens a second of all streams together, while all of them generate."""
    n_tokens, seconds = 0, 0.0
    for batch in batches:
        begin = max(stream.times[0] for stream in batch)
        end = min(stream.times[-1] for stream in batch)
        if end > begin:
            n_tokens += sum(begin < t <= end for stream in batch for t in stream.times)
            seconds += end - begin
    return n_tokens / seconds


def compare(
    model: Model,
    tokenizer: Tokenizer,
    spec: SpecConfig,
    prompts: list[list[int]],
    n_streams: int,
    args: argparse.Namespace,
) -> None:
    """Rounds of both, and a line of what they gave."""
    costs = measure_costs(model, spec.n_max)
    rates: dict[bool, list[float]] = {False: [], True: []}
    n_draft = n_accepted = n_first = n_first_accepted = 0
    for i in range(args.rounds):
        answers = {}
        for is_on in (i % 2 == 0, i % 2 == 1):
            spec_now = spec if is_on else SpecConfig()
            config = EngineConfig(n_streams, model.n_ctx, spec=spec_now)
            engine = Engine(model, tokenizer, config, costs=costs if is_on else None)
            engine.start()
            streams = run(engine, prompts, n_streams, args)
            counters = engine.stats().counters
            engine.stop(drain_timeout_s=10)
            rates[is_on].append(rate(streams))
            answers[is_on] = [[s.tokens for s in turn] for turn in streams]
            if is_on:
                n_draft += counters.n_draft_tokens
                n_accepted += counters.n_draft_accepted
                n_first += counters.drafted_at[0]
                n_first_accepted += counters.accepted_at[0]
        assert answers[True] == answers[False], "speculation changed an answer"
    ratios = [on / off for on, off in zip(rates[True], rates[False], strict=True)]
    print(
        f"{n_streams:>7}{statistics.median(rates[False]):>10.1f}"
        f"{statistics.median(rates[True]):>10.1f}{statistics.median(ratios):>8.2f}"
        f"   {min(ratios):.2f}-{max(ratios):.2f}{n_accepted / max(1, n_draft):>10.2f}"
        f"{n_first_accepted / max(1, n_first):>8.2f}{n_draft / args.rounds:>9.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--streams", default="1,4,8")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--prompts", type=Path)
    parser.add_argument("--spec-type", default="")
    parser.add_argument("--n-max", type=int, default=3)
    parser.add_argument("--ignore-eos", action="store_true")
    args = parser.parse_args()
    path = locate(args.model, load_settings())
    file = open_gguf(path)
    types = tuple(args.spec_type.split(",")) if args.spec_type else ()
    types = types or ((MTP,) if has_mtp(file) else (NGRAM,))
    spec = SpecConfig(types, args.n_max)
    tokenizer = Tokenizer.from_metadata(file.metadata)
    template = ChatTemplate.from_metadata(file.metadata, tokenizer)
    texts = args.prompts.read_text().splitlines() if args.prompts else list(PROMPTS)
    print(f"{path.name}, {', '.join(types)}, at most {args.n_max} drafts")
    print("streams   without      with   ratio   range      accepted   first   drafts")
    for n in map(int, args.streams.split(",")):
        config = ModelConfig(
            n_threads=args.threads, n_ctx=n * 2048, n_slots=n, max_drafts=spec.n_max,
            use_mtp=MTP in types, kernel_cache=Path.home() / ".cache/slotmux/kernels",
        )  # fmt: skip
        model = load_model(path, config)
        chats = [[{"role": "user", "content": text}] for text in texts if text]
        prompts = [tokenizer.encode_rendered(template.render(chat)) for chat in chats]
        compare(model, tokenizer, spec, prompts, n, args)
        model.close()


if __name__ == "__main__":
    main()

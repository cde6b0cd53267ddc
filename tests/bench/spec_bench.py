"""Generation with speculation beside generation without, on real text, in the same process.

    python -m tests.bench.spec_bench demo --streams 1,4,8 --rounds 5
    python -m tests.bench.spec_bench MODEL.gguf --prompts FILE.txt --spec-type ngram

Each round runs the same chats on an engine without speculation and on one with it, and who begins
changes. Tokens a second count from the moment when all streams generate to the first one's end, as
in http_bench. Prompts are chats (one a line); ``--seed`` draws instead of taking the likeliest.
The answers of both must be equal: that is checked.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from runtime.config import MTP, NGRAM, SpecConfig
from runtime.engine import Engine, EngineConfig
from runtime.gguf import open_gguf
from runtime.model import Model, ModelConfig, load_model
from runtime.models import has_mtp
from runtime.request import Output, Request, SamplingParams
from runtime.speculation.measure import measure_costs
from runtime.tokenizer import Tokenizer
from server.chat_template import ChatTemplate
from server.commands.loading import locate

PROMPTS = (
    "What is slotmux?",
    "Tell me a short story about a cat and a river.",
    "How do I start the server?",
    "List three animals and say something about each.",
    "What is a hybrid model?",
    "Why do leaves fall in autumn?",
    "Count from one to fifteen.",
    "Explain what a prefix cache does.",
)


@dataclass
class Stream:
    """One chat's tokens with the times at which they came."""

    tokens: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    n_draft: int = 0
    n_accepted: int = 0

    def receive(self, request: Request, outputs: list[Output]) -> None:
        now = time.perf_counter()
        for output in outputs:
            self.tokens += output.token_ids
            self.times += [now] * len(output.token_ids)
            if output.usage is not None:
                self.n_draft = output.usage.n_draft
                self.n_accepted = output.usage.n_draft_accepted
                self.done.set()


def run(engine: Engine, prompts: list[list[int]], n_tokens: int, seed: int | None) -> list[Stream]:
    """All prompts at once, to their ends."""
    streams = []
    for i, prompt in enumerate(prompts):
        stream = Stream()
        sampling = SamplingParams(temperature=0.0 if seed is None else 0.8, seed=(seed or 0) + i)
        engine.submit(
            Request(
                prompt, sampling, stream.receive, max_tokens=n_tokens, ignore_eos=True,
                cache_prompt=False,
            )
        )  # fmt: skip
        streams.append(stream)
    for stream in streams:
        assert stream.done.wait(600), "a stream did not end"
    return streams


def rate(streams: list[Stream]) -> float:
    """Tokens a second of all, while all generate."""
    begin = max(s.times[0] for s in streams)
    end = min(s.times[-1] for s in streams)
    n = sum(begin < t <= end for s in streams for t in s.times)
    return n / (end - begin)


def compare(
    model: Model,
    tokenizer: Tokenizer,
    spec: SpecConfig,
    prompts: list[list[int]],
    args: argparse.Namespace,
) -> None:
    """Rounds of both, and a line of what they gave."""
    costs = measure_costs(model, spec.n_max)
    rates: dict[bool, list[float]] = {False: [], True: []}
    n_draft = n_accepted = n_first = n_first_accepted = 0
    for i in range(args.rounds):
        answers = {}
        for is_on in (i % 2 == 0, i % 2 == 1):
            config = EngineConfig(len(prompts), model.n_ctx, spec=spec if is_on else SpecConfig())
            engine = Engine(model, tokenizer, config, costs=costs if is_on else None)
            engine.start()
            streams = run(engine, prompts, args.tokens, args.seed)
            counters = engine.stats().counters
            engine.stop(drain_timeout_s=10)
            rates[is_on].append(rate(streams))
            answers[is_on] = [s.tokens for s in streams]
            if is_on:
                n_draft += counters.n_draft_tokens
                n_accepted += counters.n_draft_accepted
                n_first += counters.drafted_at[0]
                n_first_accepted += counters.accepted_at[0]
        assert answers[True] == answers[False], "speculation changed an answer"
    ratios = [on / off for on, off in zip(rates[True], rates[False], strict=True)]
    print(
        f"{len(prompts):>7}{statistics.median(rates[False]):>10.1f}"
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
    parser.add_argument("--prompts", type=Path)
    parser.add_argument("--spec-type", default="")
    parser.add_argument("--n-max", type=int, default=3)
    args = parser.parse_args()
    path = locate(args.model)
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
        chats = [[{"role": "user", "content": texts[i % len(texts)]}] for i in range(n)]
        prompts = [tokenizer.encode_rendered(template.render(chat)) for chat in chats]
        compare(model, tokenizer, spec, prompts, args)
        model.close()


if __name__ == "__main__":
    main()

"""Tokens a second of batches of texts here, in sentence-transformers and in llama.cpp, in turn,
with as many threads: `python -m tools.embed_bench MODEL.gguf --torch DIR [--torch-python PYTHON]
[--llama llama-embedding]`."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

N_TEXTS, N_TOKENS = 64, 128
PEER = """
import json, sys, time, resource, torch
from sentence_transformers import SentenceTransformer
folder, n_threads, n_texts, n_tokens, rounds = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(n_threads)
model = SentenceTransformer(folder)[0].auto_model.eval()
ids = torch.randint(1000, 20000, (n_texts, n_tokens))
mask = torch.ones_like(ids)
def run():
    with torch.inference_mode():
        model(input_ids=ids, attention_mask=mask).last_hidden_state.mean(1)
run()
def spent():
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime
for _ in sys.stdin:
    wall, cpu = time.monotonic(), spent()
    for _ in range(rounds):
        run()
    print(json.dumps([time.monotonic() - wall, spent() - cpu]), flush=True)
"""


class LlamaCpp:
    """llama-embedding over files of texts of ``N_TOKENS`` tokens. Its time for many batches less
    its time for one: without starting and loading."""

    N_BATCHES = 9

    def __init__(self, program: Path, model: Path, n_threads: int, folder: Path) -> None:
        room = str(4 * N_TOKENS)  # of a ubatch; with 16 texts it was slower
        self._command = [str(program), "-m", str(model), "-t", str(n_threads), "-c", room]
        self._command += ["-b", room, "-ub", room, "--pooling", "mean"]
        self._command += ["--embd-output-format", "array"]
        # A word of one token each, between the two that the tokenizer adds.
        text = " ".join(["the"] * (N_TOKENS - 2))
        self._files = [folder / "one.txt", folder / "many.txt"]
        for path, n in zip(self._files, (1, self.N_BATCHES), strict=True):
            path.write_text("\n".join([text] * (N_TEXTS * n)))

    def tokens_per_second(self) -> float:
        """Of one measurement."""
        seconds = []
        for path in self._files:
            begin = time.monotonic()
            subprocess.run([*self._command, "-f", str(path)], check=True, capture_output=True)
            seconds.append(time.monotonic() - begin)
        return (self.N_BATCHES - 1) * N_TEXTS * N_TOKENS / (seconds[1] - seconds[0])


def spent() -> float:
    """Seconds of CPU time of this process."""
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.embed_bench", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--torch", type=Path, required=True, help="the same model's checkpoint")
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--llama", type=Path, help="llama.cpp's llama-embedding")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, help="where compiled kernels are kept")
    given = parser.parse_args()
    from slotmux.runtime.encoder import Text, load_encoder
    from slotmux.runtime.engine.texts.engine import STEP_TOKENS
    from slotmux.runtime.model import ModelConfig

    config = ModelConfig(n_threads=given.threads, n_ubatch=512, kernel_cache=given.cache)
    encoder = load_encoder(given.model, config)
    rng = np.random.default_rng(0)
    texts = [Text(rng.integers(1000, 20000, N_TOKENS, dtype=np.int32)) for _ in range(N_TEXTS)]
    n = STEP_TOKENS // N_TOKENS

    def run() -> None:
        for i in range(0, N_TEXTS, n):
            encoder.encode(texts[i : i + n])

    run()
    arguments = [str(given.torch), given.threads, N_TEXTS, N_TOKENS, given.rounds]
    peer = subprocess.Popen(
        [given.torch_python, "-c", PEER, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert peer.stdin is not None
    assert peer.stdout is not None
    n_tokens = N_TEXTS * N_TOKENS * given.rounds
    folder = tempfile.TemporaryDirectory()
    llama = given.llama and LlamaCpp(given.llama, given.model, given.threads, Path(folder.name))
    rates: list[tuple[float, ...]] = []
    for _ in range(given.pairs):
        peer.stdin.write("go\n")
        peer.stdin.flush()
        their_wall, their_cpu = json.loads(peer.stdout.readline())
        wall, cpu = time.monotonic(), spent()
        for _ in range(given.rounds):
            run()
        wall, cpu = time.monotonic() - wall, spent() - cpu
        rates.append((n_tokens / wall, n_tokens / their_wall))
        if llama:
            rates[-1] += (llama.tokens_per_second(),)
        print(
            " ".join(f"{rate:.0f}" for rate in rates[-1]),
            f"tokens/s here, there; of CPU time {their_cpu / cpu:.2f} times",
            flush=True,
        )
    names = ("here", "sentence-transformers", "llama.cpp")
    for i, name in enumerate(names[: len(rates[0])]):
        ratio = median(rate[0] / rate[i] for rate in rates)
        print(f"{name}: {median(rate[i] for rate in rates):.0f} tokens/s, {ratio:.2f}")
    folder.cleanup()
    peer.stdin.close()
    peer.wait()
    encoder.close()


if __name__ == "__main__":
    main()

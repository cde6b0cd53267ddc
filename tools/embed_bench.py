"""Tokens a second of batches of texts here and in sentence-transformers, in pairs, with as many
threads: `python -m tools.embed_bench MODEL.gguf --torch DIR [--torch-python PYTHON]`."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

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


def spent() -> float:
    """Seconds of CPU time of this process."""
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.embed_bench", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--torch", type=Path, required=True, help="the same model's checkpoint")
    parser.add_argument("--torch-python", default=sys.executable)
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
    for _ in range(given.pairs):
        peer.stdin.write("go\n")
        peer.stdin.flush()
        their_wall, their_cpu = json.loads(peer.stdout.readline())
        wall, cpu = time.monotonic(), spent()
        for _ in range(given.rounds):
            run()
        wall, cpu = time.monotonic() - wall, spent() - cpu
        print(
            f"{n_tokens / wall:.0f} tokens/s here, {n_tokens / their_wall:.0f} there:"
            f" {their_wall / wall:.2f} times; of CPU time {their_cpu / cpu:.2f} times",
            flush=True,
        )
    peer.stdin.close()
    peer.wait()
    encoder.close()


if __name__ == "__main__":
    main()

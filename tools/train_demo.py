"""Train the demo model and write it as a GGUF file: `python -m tools.train_demo`.

It needs PyTorch (`pip install -e '.[train]'`) and downloads nothing: the text is made up while
training runs, from `--seed`.

`server/assets/demo.gguf` took 7.75 minutes on one H200 with `--workers 13`: 5407 steps of 65,536
tokens, 770 thousand tokens a second; compiling, two thirds of a minute, is not counted. The skills
of `tools/demo/text/skills_free.py` were added afterwards on one CPU core, 800 tokens a second, in
three runs of 5 or 6 minutes: OMP_NUM_THREADS=1, `--resume FILE --seed 1, 2, 3 --bf16 --warmup 6
--batch-tokens 1024, 2048, 2048 --lengths 256,256,512 --lr 3e-4 --matrix-lr 0.002`. A CPU is enough
to go on from a file, not to begin. Who trains anew needs only the first run: the text has all
skills by now.

What is made the same again: the text, the tokenizer, the first weights, the order of batches.
Training ends by the clock, and a GPU adds in any order, so the weights are others each time.

The file is written every minute. At the end the program prints, computed in PyTorch, how many
codewords are repeated, how many drafts the trunk agrees with, and samples;
`python -m tools.recall_demo` measures the codewords in slotmux.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from tools.demo.config import TINY, DemoConfig
from tools.demo.corpus import batches, demo_tokenizer
from tools.demo.export import read_tokenizer, read_weights, write_gguf

if TYPE_CHECKING:
    from tools.demo.model import DemoModel

# The processes that make text import this file: PyTorch is imported where it is used.


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, default=Path("demo.gguf"), help="GGUF file to write")
    add("--minutes", type=float, default=8.0, help="how long to train")
    add("--seed", type=int, default=1)
    add("--batch-tokens", type=int, default=65_536)
    add("--lengths", default="256,512,256,1024,256,512,256,2048", help="of rows, by turns")
    add("--lr", type=float, default=4e-3, help="peak rate of embeddings and vectors")
    add("--matrix-lr", type=float, default=0.02, help="peak rate of matrices")
    add("--warmup", type=int, default=100, help="steps in which rates rise")
    add("--workers", type=int, default=2, help="processes that make text")
    add("--device", default="auto", help="cpu, cuda or auto")
    add("--tiny", action="store_true", help="a toy, to try the program")
    add("--bf16", action="store_true", help="compute in bfloat16 on a CPU, too")
    add("--resume", type=Path, help="a file to go on from")
    add("--n-recall", type=int, default=1000, help="codewords asked for at the end")
    return parser.parse_args()


def build(args: argparse.Namespace, tokenizer: Tokenizer) -> DemoModel:
    """The network on its device."""
    import torch

    from tools.demo.model import DemoModel
    from tools.demo.parts import Parts

    torch.manual_seed(args.seed)
    is_gpu = args.device == "cuda" or (args.device == "auto" and torch.cuda.is_available())
    config = TINY if args.tiny else DemoConfig()
    model = DemoModel(config, torch.bfloat16 if is_gpu or args.bf16 else torch.float32)
    if args.resume:
        read_weights(args.resume, model)
    if is_gpu:
        torch.set_float32_matmul_precision("high")
        model.to("cuda").parts = Parts(compiled=True)
    return model


def main() -> None:
    args = arguments()
    began = time.monotonic()
    lengths = [int(n) for n in args.lengths.split(",")]
    # Other rows than before when training goes on.
    seed = args.seed + 1000 if args.resume else args.seed
    if args.resume:
        tokenizer = read_tokenizer(args.resume)
    else:
        tokenizer = demo_tokenizer((TINY if args.tiny else DemoConfig()).n_vocab, args.seed)
    source = batches(tokenizer, seed, args.batch_tokens, lengths, args.workers)
    next(source)  # starts the processes

    def log(line: str) -> None:
        print(f"[{time.monotonic() - began:.0f} s] {line}", flush=True)

    log("text is being made")
    model = build(args, tokenizer)
    from tools.demo.evaluate import report
    from tools.demo.training import Schedule, check_lengths, train

    check_lengths(lengths, args.batch_tokens)
    n_params = sum(p.numel() for p in model.parameters())
    log(f"{n_params / 1e6:.2f} M parameters on {model.token_embd.device}")

    def write() -> None:
        part = args.out.with_name(args.out.name + ".part")
        write_gguf(part, model, tokenizer.to_str())
        part.replace(args.out)

    train(model, source, Schedule(args.minutes, args.lr, args.matrix_lr, args.warmup), write, log)
    write()
    log(f"wrote {args.out}: {args.out.stat().st_size} bytes")
    log(report(model, tokenizer, args.n_recall, max(1, args.n_recall // 5)))


if __name__ == "__main__":
    main()

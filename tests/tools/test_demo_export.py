"""The demo network in PyTorch and its weights in slotmux: equal logits, of trunk and drafts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.model import ModelConfig, load_model
from slotmux.runtime.tokenizer import Tokenizer
from slotmux.server.commands.logits import write_logits

torch = pytest.importorskip("torch")

from tools.demo.config import TINY  # noqa: E402
from tools.demo.corpus import demo_tokenizer  # noqa: E402
from tools.demo.export import read_weights, write_gguf  # noqa: E402
from tools.demo.model import DemoModel  # noqa: E402

N_TOKENS = 192


@pytest.fixture(scope="module")
def network() -> DemoModel:
    """Random weights, large enough that every part shows in the logits."""
    torch.manual_seed(4)
    model = DemoModel(TINY)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.add_(0.2 * torch.randn_like(p))
            elif name.endswith(("ffn_down", "ssm_out", "attn_output")):
                p.mul_(8)
            elif name == "token_embd":
                p.mul_(10)
    return model


@pytest.fixture(scope="module")
def tokenizer() -> str:
    return demo_tokenizer(TINY.n_vocab, seed=1, n_texts=100).to_str()


def slotmux_logits(path: Path, ids: list[int], kernels: Path, *, mtp: bool) -> np.ndarray:
    config = ModelConfig(
        n_threads=2, n_ctx=256, n_slots=1, n_ubatch=64, n_outputs=64, kernel_cache=kernels,
        cache_type_k="f32", cache_type_v="f32", max_drafts=int(mtp), use_mtp=mtp,
    )  # fmt: skip
    model = load_model(path, config)
    try:
        out = path.with_suffix(".npy")
        write_logits(model, ids, out, mtp=mtp)
        return np.load(out)
    finally:
        model.close()


def test_logits_are_equal(
    network: DemoModel, tokenizer: str, tmp_path: Path, kernel_cache_dir: Path
) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, network, tokenizer, quantised=False)
    ids = np.random.default_rng(1).integers(0, TINY.n_vocab, N_TOKENS)
    with torch.no_grad():
        tokens = torch.from_numpy(ids)[None]
        hidden = network.trunk(tokens)
        expected = network.logits(hidden)[0].numpy()
        drafts = network.logits(network.predictions(tokens, hidden, 1)[0])[0].numpy()
    got = slotmux_logits(path, ids.tolist(), kernel_cache_dir, mtp=False)
    assert np.abs(got - expected).max() < 1e-3
    got = slotmux_logits(path, ids.tolist(), kernel_cache_dir, mtp=True)
    n = min(len(got), len(drafts))
    assert np.abs(got[:n] - drafts[:n]).max() < 1e-3
    assert expected.std() > 1


def test_later_passes_are_what_drafting_one_by_one_gives(network: DemoModel) -> None:
    """Pass 1 at position p: the keys of pass 0 up to p - 1, and the state of pass 0 there."""
    tokens = torch.randint(0, TINY.n_vocab, (1, 64), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        hidden = network.trunk(tokens)
        passes = network.predictions(tokens, hidden, 2)
        for p in (1, 20, 63):
            # With the head's own state in the trunk's place, a single pass drafts once more.
            fed = hidden.clone()
            fed[0, p - 1] = passes[0][0, p - 1]
            again = network.predictions(tokens, fed, 1)[0]
            assert (again[0, p] - passes[1][0, p]).abs().max() < 1e-4


def test_what_was_written_is_read_back(network: DemoModel, tokenizer: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    for quantised, error in ((False, 1e-6), (True, 0.01)):
        write_gguf(path, network, tokenizer, quantised=quantised)
        other = DemoModel(TINY)
        read_weights(path, other)
        for name, value in network.state_dict().items():
            difference = (other.state_dict()[name] - value).abs().max()
            assert difference <= error * value.abs().max(), name


def test_the_server_cuts_text_as_training_does(tokenizer: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, DemoModel(TINY), tokenizer, quantised=False)
    ours = Tokenizer.from_metadata(open_gguf(path).metadata)
    theirs = demo_tokenizer(TINY.n_vocab, seed=1, n_texts=100)
    for text in ("The codeword is XqzVt.", "Grüße 你好 🦊\n\n  a1b22", "don't `stop` 3.14!?\n"):
        assert ours.encode(text) == theirs.encode(text).ids

"""Vocabulary and weights of RWKV, by what they do; matrices are [out, in]."""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tools.golden.model.vocabulary import corpus
from tools.golden.recipe import RwkvRecipe
from tools.golden.references.logits import F32

Weights = dict[str, F32]


def vocabulary(n_vocab: int) -> list[bytes]:
    """<s>, all bytes, and frequent strings: longest match, as in RWKV's world tokenizer."""
    text = "".join(Path(file).read_text(errors="ignore") for file in corpus())
    words = re.findall(r" ?[A-Za-z]{2,10}|\n\n| {2,8}|[=\-#\"']{2,4}", text)
    tokens = [b"<s>", *(bytes([i]) for i in range(256))]
    tokens += [b"\n\n", *(character.encode() for character in "é你😀")]
    frequent = (word.encode() for word, _ in collections.Counter(words).most_common(2000))
    for word in frequent:
        if word not in tokens:
            tokens.append(word)
        if len(tokens) == n_vocab:
            return tokens
    raise ValueError(f"the corpus has too few words for {n_vocab} tokens")


class Drawer:
    """Draws from one stream, in the order of calls."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def normal(self, *shape: int, deviation: float = 1.0, mean: float = 0.0) -> F32:
        return (self.rng.standard_normal(shape) * deviation + mean).astype(np.float32)

    def matrix(self, n_out: int, n_in: int, gain: float = 1.0) -> F32:
        return self.normal(n_out, n_in, deviation=gain / n_in**0.5)

    def share(self, n: int) -> F32:
        return self.rng.random(n).astype(np.float32)

    def norm(self, weights: Weights, name: str, n: int) -> None:
        weights[name] = self.normal(n, deviation=0.2, mean=1)
        weights[f"{name}_b"] = self.normal(n, deviation=0.1)


def draw(recipe: RwkvRecipe) -> Weights:
    """All weights, keyed by layer and name as the recurrences of references/rwkv.py use them."""
    draws, dims, w = Drawer(recipe.seed), recipe.dims, {}
    n = dims["n_embd"]
    w["emb"] = draws.normal(recipe.n_vocab, n, deviation=0.5)
    w["head"] = draws.matrix(recipe.n_vocab, n, 1.5)
    draws.norm(w, "ln0", n)
    draws.norm(w, "lnf", n)
    for i in range(dims["n_layer"]):
        p = f"{i}."
        for name in ("ln1", "ln2", "lnx"):
            draws.norm(w, p + name, n)
        for name in "rkvo":
            w[p + name] = draws.matrix(n, n)
        w[p + "cm_k"] = draws.matrix(dims["n_ff"], n)
        w[p + "cm_v"] = draws.matrix(n, dims["n_ff"])
        w[p + "cm_xk"] = draws.share(n)
        if recipe.name == "rwkv6":
            draw_rwkv6(draws, dims, w, p)
        else:
            draw_rwkv7(draws, dims, w, p, is_first=i == 0)
    return w


def draw_rwkv6(draws: Drawer, dims: Mapping[str, int], w: Weights, p: str) -> None:
    n, head, mix, decay = (dims[k] for k in ("n_embd", "head_size", "mix_rank", "decay_rank"))
    w[p + "g"] = draws.matrix(n, n)
    w[p + "x"] = draws.share(n)
    for name in "wkvrg":
        w[p + "x_" + name] = draws.share(n)
    w[p + "mix1"] = draws.matrix(5 * mix, n)  # five low-rank mixes: w k v r g
    w[p + "mix2"] = draws.normal(5, n, mix, deviation=0.3)
    w[p + "dec0"] = draws.normal(n, deviation=0.8, mean=-1.0)
    w[p + "dec1"] = draws.matrix(decay, n)
    w[p + "dec2"] = draws.matrix(n, decay)
    w[p + "u"] = draws.normal(n // head, head, deviation=0.5, mean=0.3)
    w[p + "cm_xr"] = draws.share(n)
    w[p + "cm_r"] = draws.matrix(n, n)


def draw_rwkv7(draws: Drawer, dims: Mapping[str, int], w: Weights, p: str, is_first: bool) -> None:
    n, head = dims["n_embd"], dims["head_size"]
    for name in "rwkvag":
        w[p + "x_" + name] = draws.share(n)
    for name, rank in (("w", "decay_rank"), ("a", "iclr_rank"), ("v", "value_rank")):
        if name == "v" and is_first:
            continue
        w[f"{p}{name}0"] = draws.normal(n, deviation=0.8, mean=-0.5)
        w[f"{p}{name}1"] = draws.matrix(dims[rank], n)
        w[f"{p}{name}2"] = draws.matrix(n, dims[rank])
    w[p + "g1"] = draws.matrix(dims["gate_rank"], n)
    w[p + "g2"] = draws.matrix(n, dims["gate_rank"], 2.0)
    w[p + "kk"] = draws.normal(n, deviation=0.3, mean=0.9)
    w[p + "ka"] = draws.normal(n, deviation=0.3, mean=0.9)
    w[p + "rk"] = draws.normal(n // head, head, deviation=0.4)

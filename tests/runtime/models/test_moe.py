"""The lowered mixture-of-experts block against its twin, and each token alone against a crowd."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize

from slotmux.kernels.operands import STEP
from slotmux.kernels.team import make_team
from slotmux.runtime.gguf import TensorInfo
from slotmux.runtime.lowering import Builder, Weights
from slotmux.runtime.lowering.buffers import Buffers, step_count
from slotmux.runtime.lowering.cells import KVCells
from slotmux.runtime.lowering.experts import moe as lowering
from slotmux.runtime.lowering.experts.moe import MoeShape, moe
from slotmux.runtime.lowering.rows import StateRows
from tests.kernels.conftest import team_of as team_of
from tests.kernels.conftest import usable_isas
from tests.kernels.dense.panels import random_file
from tests.reference.moe import moe as moe_twin
from tests.reference.moe import route

N_ROWS = 40
K_QUANTS = (Type.Q4_K, Type.Q6_K)


def tensor(name, shape, kind, rng):
    """A random tensor [.., n_out, n_in] as a file would hold it."""
    if kind in K_QUANTS:
        rows = random_file(kind.name.lower(), int(np.prod(shape[:-1])), shape[-1], rng)
        raw = rows.reshape(*shape[:-1], -1)
    else:
        values = rng.normal(size=shape) / np.sqrt(shape[-1])
        raw = np.ascontiguousarray(quantize(values.astype(np.float32), kind)).view(np.uint8)
    return TensorInfo(name, tuple(shape[::-1]), kind, raw.nbytes, 0, raw)


class Block:
    """A block of random experts, lowered; ``run`` adds its result to a residual of ones.

    ``more``: tensors that not every family has."""

    def __init__(self, team, shape, n_embd, kinds, *, bias=False, shared=False, more=(), seed=0):
        rng = np.random.default_rng(seed)
        self.team, self.shape, self.n_embd = team, shape, n_embd
        e, f = shape.n_expert, shape.n_ff
        sizes = {"gate": (e, f, n_embd), "up": (e, f, n_embd), "down": (e, n_embd, f)}
        if not shape.has_gate:
            del sizes["gate"]
        if "gate_up" in more:
            del sizes["gate"], sizes["up"]
            sizes = {"gate_up": (e, 2 * f, n_embd), **sizes}
            kinds = {**kinds, "gate_up": kinds["gate"]}
        wanted = {f"ffn_{n}_exps.weight": (size, kinds[n]) for n, size in sizes.items()}
        wanted["ffn_gate_inp.weight"] = ((e, n_embd), Type.F32)
        if bias:
            wanted["exp_probs_b.bias"] = ((e,), Type.F32)
        further = {
            "ffn_gate_inp.bias": (e,), "ffn_down_exps.scale": (e,), "ffn_gate_exps.bias": (e, f),
            "ffn_up_exps.bias": (e, f), "ffn_down_exps.bias": (e, n_embd),
        }  # fmt: skip
        wanted |= {n: (size, Type.F32) for n, size in further.items() if n in more}
        tensors = {
            f"blk.0.{n}": tensor(f"blk.0.{n}", size, kind, rng)
            for n, (size, kind) in wanted.items()
        }
        file = SimpleNamespace(architecture="test", tensors=tensors)
        self.values = {
            n: dequantize(t.data.view(np.uint8), t.type).reshape(t.shape[::-1])
            for n, t in file.tensors.items()
        }
        self._lower(Weights(file), shared)

    def _lower(self, weights, shared):
        self.step = np.zeros(len(STEP._fields), np.int64)
        self.buffers = Buffers(step_count(self.step, "n_tokens", N_ROWS))
        kernels, n_threads = self.team.kernels, self.team.n_threads
        cells, rows = KVCells(1, "f32", "f32"), StateRows(1)
        b = Builder(kernels, n_threads, weights, self.buffers, cells, rows, self.step, 64, 1)
        x, out = b.buffers.rows("in", self.n_embd), b.buffers.rows("residual", self.n_embd)
        extra = [b.buffers.rows("shared", self.n_embd), b.buffers.rows("factor", 1)]
        moe(b, "blk.0", x, self.shape, out, *(extra if shared else []))
        weights.check_all_used()
        self.rows = {r.buffer: r for r in (x, out, *extra)}
        self.names = [r.buffer for r in (x, out, *extra)]
        weights.load(self.team, lambda done: None)
        self.program = b.program(self.team)
        self.program.kept = (b, weights)  # for threads that lag behind

    def _memory(self, name):
        rows = self.rows[name]
        if name not in self.buffers._arrays:
            return np.zeros((N_ROWS, 16), np.float32)
        array = self.buffers.array(name).view(np.float32)
        return array[: N_ROWS * rows.stride // 4].reshape(N_ROWS, -1)

    def run(self, x, shared=None, factor=None):
        """The block's result for rows x; rows behind them are NaN."""
        values = (x, np.ones_like(x), shared, factor)
        for name, value in zip(self.names, values, strict=True):
            memory = self._memory(name)
            memory[:] = np.nan
            if value is not None:
                memory[: len(value), : value.shape[1]] = value
        self.step[0] = len(x)
        self.team.run(self.program)
        return self._memory(self.names[1])[: len(x), : self.n_embd] - np.float32(1.0)

    def expected(self, x):
        """What the twin says."""
        get = lambda n: self.values.get(f"blk.0.{n}")  # noqa: E731
        shape = self.shape
        of_router = get("ffn_gate_inp.bias")
        ids, weights = route(
            x @ get("ffn_gate_inp.weight").T + (0.0 if of_router is None else of_router),
            shape.n_used,
            expert_scale=get("ffn_down_exps.scale"),
            scores=shape.scores,
            bias=get("exp_probs_b.bias"),
            renormalise=shape.renormalise,
            scale=shape.scale,
        )
        gate, up, down = (get(f"ffn_{n}_exps.weight") for n in ("gate", "up", "down"))
        both = get("ffn_gate_up_exps.weight")
        if both is not None:
            gate, up = both[:, : shape.n_ff], both[:, shape.n_ff :]
        biases = [get(f"ffn_{n}_exps.bias") for n in ("gate", "up", "down")]
        return moe_twin(x, ids, weights, gate, up, down, shape.activation, biases)


FLOATS = dict.fromkeys(("gate", "up", "down"), Type.F32)
MIXED = {"gate": Type.Q8_0, "up": Type.F16, "down": Type.Q4_0}
BF16 = dict.fromkeys(FLOATS, Type.BF16)
HALF_BF16 = {"gate": Type.BF16, "up": Type.F32, "down": Type.BF16}
K_MIX = {"gate": Type.Q4_K, "up": Type.Q4_K, "down": Type.Q6_K}
BIASES = ("ffn_gate_inp.bias", *(f"ffn_{n}_exps.bias" for n in ("gate", "up", "down")))
OAI = {"scores": "chosen", "renormalise": False, "activation": "swiglu_oai"}
CASES = {
    "qwen": (MoeShape(7, 3, 40), 48, FLOATS, {}),
    "joined panels": (MoeShape(5, 2, 48), 72, FLOATS, {}),
    "sigmoid": (MoeShape(9, 4, 24, scores="sigmoid", scale=2.0), 40, FLOATS, {"bias": True}),
    "no gate": (
        MoeShape(6, 2, 40, renormalise=False, activation="relu2", has_gate=False), 56, FLOATS, {},
    ),
    "q8_0": (MoeShape(6, 2, 64), 96, dict.fromkeys(FLOATS, Type.Q8_0), {}),
    "k-quants": (MoeShape(5, 2, 256), 256, K_MIX, {}),
    "bf16": (MoeShape(6, 3, 40), 48, BF16, {}),
    "bf16 beside f32": (MoeShape(6, 3, 64), 72, HALF_BF16, {}),
    "mixed": (MoeShape(6, 5, 64, activation="gelu"), 64, MIXED, {}),
    "biases": (MoeShape(6, 2, 40, **OAI), 56, FLOATS, {"more": BIASES}),
    "biases, quantised": (
        MoeShape(6, 2, 96, **OAI), 64, dict.fromkeys(FLOATS, Type.MXFP4), {"more": BIASES},
    ),
    "gate and up in one": (
        MoeShape(5, 2, 40, activation="relu"), 48, FLOATS,
        {"more": ("gate_up", "ffn_down_exps.scale")},
    ),
    "gate and up in one, odd": (MoeShape(5, 2, 36), 48, FLOATS, {"more": ("gate_up",)}),
}  # fmt: skip


@pytest.fixture(scope="module", params=[1, 3])
def team(request, kernel_cache_dir):
    team = make_team("auto", request.param, kernel_cache_dir)
    yield team
    team.close()


@pytest.mark.parametrize("case", CASES)
def test_matches_twin_and_ignores_company(team, case):
    shape, n_embd, kinds, options = CASES[case]
    block = Block(team, shape, n_embd, kinds, **options)
    x = np.random.default_rng(1).normal(size=(37, n_embd)).astype(np.float32)
    found, expected = block.run(x), block.expected(x)
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error < (2e-6 if kinds is FLOATS else 2e-2)
    for rows in ([3], [36, 3], list(range(9)), list(range(36, 4, -1))):
        assert np.array_equal(block.run(x[rows]), found[rows]), rows


@pytest.mark.parametrize("case", ["bf16", "bf16 beside f32", "mixed"])
def test_every_path_gives_the_same_bits(case, team_of):
    shape, n_embd, kinds, options = CASES[case]
    x = np.random.default_rng(1).normal(size=(37, n_embd)).astype(np.float32)
    results = {
        isa: Block(team_of(isa, 2), shape, n_embd, kinds, **options).run(x).tobytes()
        for isa in usable_isas()
    }
    assert len(set(results.values())) == 1, sorted(results)


Q4_0, MXFP4 = dict.fromkeys(FLOATS, Type.Q4_0), dict.fromkeys(FLOATS, Type.MXFP4)
IN_ONE = {
    "heavy panels": (MoeShape(5, 2, 256), 256, K_MIX, {}),
    "light panels": (MoeShape(3, 2, 64), 96, dict.fromkeys(FLOATS, Type.Q8_0), {}),
    "biases": (MoeShape(6, 2, 96, **OAI), 64, MXFP4, {"more": BIASES}),
    "no gate": (
        MoeShape(4, 3, 64, activation="relu2", has_gate=False), 64, Q4_0, {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", IN_ONE)
def test_products_and_activation_in_one_op_give_the_bits_of_three(team, case, monkeypatch):
    shape, n_embd, kinds, options = IN_ONE[case]
    x = np.random.default_rng(5).normal(size=(N_ROWS, n_embd)).astype(np.float32)
    in_one = Block(team, shape, n_embd, kinds, **options)
    monkeypatch.setattr(lowering, "can_gate_experts", lambda w, n_out: False)
    apart = Block(team, shape, n_embd, kinds, **options)
    assert len(in_one.program._keep) < len(apart.program._keep)
    for n in (1, 2, 5, N_ROWS):
        assert np.array_equal(in_one.run(x[:n]), apart.run(x[:n])), n


def test_shared_expert_is_gated_by_a_sigmoid(team):
    block = Block(team, MoeShape(4, 2, 16), 32, FLOATS, shared=True)
    rng = np.random.default_rng(2)
    x, shared = (rng.normal(size=(11, 32)).astype(np.float32) for _ in range(2))
    factor = rng.normal(size=(11, 1)).astype(np.float32)
    expected = block.expected(x) + shared / (1.0 + np.exp(-factor.astype(np.float64)))
    np.testing.assert_allclose(block.run(x, shared, factor), expected, rtol=1e-5, atol=1e-5)


def test_a_token_of_nan_spoils_only_itself(team):
    block = Block(team, MoeShape(6, 3, 32), 32, dict.fromkeys(FLOATS, Type.Q8_0))
    x = np.random.default_rng(3).normal(size=(20, 32)).astype(np.float32)
    clean = block.run(x)
    x[7] = np.nan
    found = block.run(x)
    assert np.isnan(found[7]).all()
    others = np.arange(20) != 7
    assert np.array_equal(found[others], clean[others])

"""Scalar functions against decimal arithmetic, and the same bits on every path."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest

from slotmux.kernels.address import load_f64, load_i64, store_f64
from slotmux.kernels.claims import claim
from slotmux.kernels.operands import fill, words
from slotmux.kernels.scalar import cos_sin, exp, log
from slotmux.kernels.team import Program
from tests.kernels.conftest import source_digest, usable_isas

MAP = words("Map", "x out n")
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")


def build(kind):
    def logs(op, step, thread):
        while claim(thread, 1) >= 0:
            for i in range(load_i64(op + MAP.n)):
                out = load_i64(op + MAP.out) + 16 * i
                store_f64(out, log(load_f64(load_i64(op + MAP.x) + 8 * i)))

    def angles(op, step, thread):
        while claim(thread, 1) >= 0:
            for i in range(load_i64(op + MAP.n)):
                out = load_i64(op + MAP.out) + 16 * i
                c, s = cos_sin(load_f64(load_i64(op + MAP.x) + 8 * i))
                store_f64(out, c)
                store_f64(out + 8, s)

    def powers(op, step, thread):
        while claim(thread, 1) >= 0:
            for i in range(load_i64(op + MAP.n)):
                out = load_i64(op + MAP.out) + 16 * i
                store_f64(out, exp(load_f64(load_i64(op + MAP.x) + 8 * i)))

    return {"log": logs, "angles": angles, "exp": powers}[kind]


def evaluate(team, kind, x):
    x, out = np.asarray(x, np.float64), np.zeros((len(x), 2))
    name = f"test.{source_digest(__file__)}.{kind}"
    operands = fill(MAP, x=x, out=out, n=len(x))
    address = team.kernels.address(name, lambda: build(kind))
    program = Program(team, np.zeros(1, np.int64), [(address, operands, 0)])
    program.kept = (x, out)
    team.run(program)
    return out


def exact_angle(x):
    """Cosine and sine of a float64 by Taylor's series in 60 digits."""
    turns = (Decimal(x) / (PI / 2)).to_integral_value()
    r = Decimal(x) - turns * (PI / 2)
    terms = [Decimal(1)]
    for n in range(1, 40):
        terms.append(terms[-1] * r / n)
    c = sum((-1) ** (n // 2) * terms[n] for n in range(0, 40, 2))
    s = sum((-1) ** (n // 2) * terms[n] for n in range(1, 40, 2))
    for _ in range(int(turns) % 4):
        c, s = -s, c
    return c, s


def samples(kind):
    rng = np.random.default_rng(3)
    if kind == "log":
        near = 1.0 + rng.normal(size=200) * 10.0 ** rng.integers(-16, -1, 200)
        wide = np.exp(rng.uniform(-700, 700, 300))
        edges = [1.0, 0.5, 2.0, np.sqrt(0.5), np.sqrt(2.0), 5e-324, 1e-310, 1.7e308]
        return np.concatenate([near, wide, edges, np.nextafter(edges[:5], 0)])
    if kind == "exp":
        near = rng.normal(size=200) * 10.0 ** rng.integers(-16, 1, 200)
        halves = (np.arange(-9, 9) + 0.5) * np.log(2)
        edges = [0.0, -0.0, 1.0, -1.0, -707.9, 708.9]
        return np.concatenate([near, rng.uniform(-708, 709, 300), halves, edges])
    small = rng.uniform(-1, 1, 200) * 10.0 ** rng.integers(-12, 1, 200)
    positions = np.floor(rng.uniform(0, 2**20, 300)) * 10.0 ** rng.uniform(-6, 0, 300)
    return np.concatenate([small, positions, [0.0, np.pi / 4, np.pi / 2, 1e9, 131071.0, 710.0]])


@pytest.mark.parametrize("isa", usable_isas())
@pytest.mark.parametrize("kind", ["log", "angles", "exp"])
def test_near_the_exact_value_and_alike_on_every_path(team_of, kind, isa):
    x = samples(kind)
    got = evaluate(team_of(isa), kind, x)
    assert got.tobytes() == evaluate(team_of("portable"), kind, x).tobytes()
    allowed = 1.5 if kind == "angles" else 1.0  # ulp
    for value, row in zip(x, got, strict=True):
        with localcontext(prec=60):
            if kind == "angles":
                want = exact_angle(value)
            else:
                want = (Decimal(value).ln() if kind == "log" else Decimal(value).exp(),)
            for a, b in zip(row, want, strict=False):
                error = float(abs(Decimal(a) - b))
                assert error <= allowed * np.spacing(abs(float(b))) + 2.0**-80, (value, a, b)


def test_values_without_a_logarithm(team_of):
    got = evaluate(team_of(), "log", [0.0, -0.0, -1.0, np.inf, -np.inf, np.nan])[:, 0]
    np.testing.assert_array_equal(got, [-np.inf, -np.inf, np.nan, np.inf, np.nan, np.nan])


def test_powers_beyond_the_largest_and_the_least(team_of):
    got = evaluate(team_of(), "exp", [710.0, np.inf, -709.0, -np.inf, np.nan])[:, 0]
    np.testing.assert_array_equal(got, [np.inf, np.inf, 0.0, 0.0, np.nan])

"""Hyper-connections: several residual streams side by side (kernels/ops/dense/streams.py)."""

from __future__ import annotations

from dataclasses import dataclass

from slotmux.kernels.operands import Rows
from slotmux.kernels.ops.dense.streams import GateStreams, MixStreams, SpreadStreams, StreamNorm
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.elementwise import elementwise, in_place


@dataclass(frozen=True, slots=True)
class StreamShape:
    """``n`` streams of ``width``, mixed by gates of a low rank."""

    n: int
    width: int
    rank: int
    eps: float

    @property
    def all(self) -> int:
        """Width of all streams."""
        return self.n * self.width


def streams_of(b: Builder, shape: StreamShape, x: Rows) -> Rows:
    """The residual streams: x, as often as there are streams."""
    out = b.buffers.rows("streams", shape.all)
    for i in range(shape.n):
        in_place(b, "copy", out.columns(i * shape.width, shape.width), y=x)
    return out


def stream_norm(b: Builder, shape: StreamShape, x: Rows, tensor: str, name: str) -> Rows:
    """Every stream / its rms, times the tensor's weights."""
    out = b.buffers.rows(name, shape.all)
    weight = b.weights.vector(tensor, shape.all)
    b.append(
        StreamNorm(x=x, n_rows=x.n_rows, n_streams=shape.n, weight=weight, eps=shape.eps, out=out)
    )
    return out


def mix(b: Builder, shape: StreamShape, x: Rows, tensors: str) -> tuple[Rows, Rows]:
    """What a layer reads of the streams x, and the weights by which its result goes back to them:
    see ``spread``. ``tensors``: what their names begin with."""
    h = stream_norm(b, shape, x, f"{tensors}_norm.weight", "streams_normed")
    names = [f"{tensors}_{n}.weight" for n in ("down", "inject")]
    low, weights = b.linears(h, names, (shape.rank, shape.n), "streams_down")
    return _mixed(b, shape, h, low, f"{tensors}_up.weight", "mixed"), weights


def mix_outputs(b: Builder, shape: StreamShape, x: Rows, tensors: str, most: int) -> Rows:
    """The same of the rows alone that get logits, at most ``most``, which go nowhere back."""
    count = b.outputs(most)
    h = b.buffers.rows("streams_normed", shape.all, count)
    b.append(
        StreamNorm(
            x=x,
            index=b.step_address("out_tokens"),
            n_rows=count,
            n_streams=shape.n,
            weight=b.weights.vector(f"{tensors}_norm.weight", shape.all),
            eps=shape.eps,
            out=h,
        )
    )
    down = b.weights.matrix(f"{tensors}_down.weight", shape.all, shape.rank)
    low = b.linear(h, down, "streams_down")
    return _mixed(b, shape, h, low, f"{tensors}_up.weight", "output_norm")


def _mixed(b: Builder, shape: StreamShape, h: Rows, low: Rows, up: str, name: str) -> Rows:
    """The mean over the streams h, gated by what ``low`` gives."""
    gated = elementwise(b, "silu_scaled", low, "streams_low", scalar=1.0 / shape.n)
    gate = b.linear(gated, b.weights.matrix(up, shape.rank, shape.all), "streams_gate")
    out = b.buffers.rows(name, shape.width, h.n_rows)
    b.append(MixStreams(x=h, gate=gate, n_streams=shape.n, out=out))
    return out


def spread(b: Builder, shape: StreamShape, x: Rows, y: Rows, weights: Rows) -> None:
    """A layer's result y to all streams x, by the weights that ``mix`` gave."""
    b.append(SpreadStreams(x=x, y=y, weight=weights, n_streams=shape.n))


def gate_streams(b: Builder, shape: StreamShape, key: Rows, query: Rows, value: Rows) -> Rows:
    """value for every stream, times a gate of how its key and query agree."""
    out = b.buffers.rows("streams_gated", shape.all)
    b.append(GateStreams(key=key, query=query, value=value, n_streams=shape.n, out=out))
    return out

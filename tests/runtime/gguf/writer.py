"""Writes GGUF files byte by byte, right or wrong as asked: nothing is checked here."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from gguf import GGMLQuantizationType, GGUFValueType

_FORMATS = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.INT8: "<b",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.BOOL: "<B",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.INT64: "<q",
    GGUFValueType.FLOAT64: "<d",
}


def u32(value: int) -> bytes:
    return struct.pack("<I", value % (1 << 32))


def u64(value: int) -> bytes:
    return struct.pack("<Q", value % (1 << 64))


def string(text: str | bytes, n_bytes: int | None = None) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return u64(len(raw) if n_bytes is None else n_bytes) + raw


def scalar(kind: GGUFValueType, value: float) -> bytes:
    return struct.pack(_FORMATS[kind], value)


def pair(key: str | bytes, kind: GGUFValueType, value: object) -> bytes:
    """A key/value pair; ``value`` may be raw bytes for content that is wrong on purpose."""
    if isinstance(value, bytes):
        body = value
    elif kind is GGUFValueType.STRING:
        body = string(str(value))
    else:
        body = scalar(kind, value)  # type: ignore[arg-type]
    return string(key) + u32(kind) + body


def array(
    key: str, kind: GGUFValueType | int, items: list[object], n_items: int | None = None
) -> bytes:
    body = b"".join(
        string(item) if kind == GGUFValueType.STRING else scalar(GGUFValueType(kind), item)
        for item in items
    )
    n_items = len(items) if n_items is None else n_items
    return string(key) + u32(GGUFValueType.ARRAY) + u32(kind) + u64(n_items) + body


@dataclass
class Tensor:
    name: str | bytes = "t"
    shape: tuple[int, ...] = (8,)
    type: int = GGMLQuantizationType.F32
    offset: int = 0
    n_dims: int | None = None
    name_bytes: int | None = None

    def pack(self) -> bytes:
        n_dims = len(self.shape) if self.n_dims is None else self.n_dims
        return (
            string(self.name, self.name_bytes)
            + u32(n_dims)
            + b"".join(u64(size) for size in self.shape)
            + u32(self.type)
            + u64(self.offset)
        )


ARCHITECTURE = pair("general.architecture", GGUFValueType.STRING, "llama")


@dataclass
class File:
    pairs: list[bytes] = field(default_factory=lambda: [ARCHITECTURE])
    tensors: list[Tensor] = field(default_factory=list)
    data: bytes = b""
    magic: bytes = b"GGUF"
    version: int = 3
    n_tensors: int | None = None
    n_pairs: int | None = None
    alignment: int = 32

    def header(self) -> bytes:
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        n_pairs = len(self.pairs) if self.n_pairs is None else self.n_pairs
        start = self.magic + u32(self.version) + u64(n_tensors) + u64(n_pairs)
        return start + b"".join(self.pairs) + b"".join(tensor.pack() for tensor in self.tensors)

    def pack(self) -> bytes:
        header = self.header()
        padding = -len(header) % self.alignment if self.tensors else 0
        return header + bytes(padding) + self.data


def small_file() -> File:
    """A sound file with every value type, a vocabulary and three tensors."""
    kinds = GGUFValueType
    return File(
        pairs=[
            ARCHITECTURE,
            pair("general.alignment", kinds.UINT32, 64),
            pair("a.u8", kinds.UINT8, 200),
            pair("a.i8", kinds.INT8, -5),
            pair("a.u16", kinds.UINT16, 60_000),
            pair("a.i16", kinds.INT16, -6),
            pair("a.u32", kinds.UINT32, 4_000_000_000),
            pair("a.i32", kinds.INT32, -7),
            pair("a.u64", kinds.UINT64, 1 << 63),
            pair("a.i64", kinds.INT64, -8),
            pair("a.f32", kinds.FLOAT32, 0.5),
            pair("a.f64", kinds.FLOAT64, 0.1),
            pair("a.yes", kinds.BOOL, 1),
            pair("a.no", kinds.BOOL, 0),
            pair("a.text", kinds.STRING, "grüß dich"),
            array("tokenizer.ggml.tokens", kinds.STRING, ["<s>", "", "é", "🙂 x"]),
            array("tokenizer.ggml.scores", kinds.FLOAT32, [0.0, -1.0, -2.0, 3.5]),
            array("a.heads", kinds.UINT32, [4, 0, 4]),
            array("a.signed", kinds.INT16, [4, -1, 4]),
            array("a.swa", kinds.BOOL, [1, 0, 1]),
            array("a.empty", kinds.FLOAT64, []),
        ],
        tensors=[
            Tensor("token_embd.weight", (32, 4), GGMLQuantizationType.Q8_0, 0),
            Tensor("blk.0.bias", (8,), GGMLQuantizationType.F32, 192),
            Tensor("blk.0.weight", (4, 3, 2), GGMLQuantizationType.F16, 256),
        ],
        data=bytes(range(256)) + bytes(range(48)),
        alignment=64,
    )

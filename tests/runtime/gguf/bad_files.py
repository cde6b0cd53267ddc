"""Handcrafted files that must be refused, each with the field that the error must name."""

from __future__ import annotations

from gguf import GGMLQuantizationType as T
from gguf import GGUFValueType as V

from tests.runtime.gguf.writer import ARCHITECTURE, File, Tensor, array, pair, string, u32, u64

HUGE = ((1 << 31), (1 << 63), (1 << 64) - 1)  # the last is -1


def _pairs(*pairs: bytes) -> bytes:
    return File(pairs=[ARCHITECTURE, *pairs]).pack()


def _tensors(*tensors: Tensor, n_data: int = 4096, pairs: tuple[bytes, ...] = ()) -> bytes:
    file = File(pairs=[ARCHITECTURE, *pairs], tensors=list(tensors), data=bytes(n_data))
    return file.pack()


def _starts() -> dict[str, tuple[bytes, str]]:
    good = _tensors(Tensor())
    return {
        "empty": (b"", "file"),
        "one byte": (b"G", "magic"),
        "magic only": (b"GGUF", "version"),
        "wrong magic": (b"GGUX" + good[4:], "magic"),
        "zeros": (bytes(4096), "magic"),
        "magic reversed": (b"FUGG" + good[4:], "magic"),
        "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "magic"),
        "zip": (b"PK\x03\x04" + bytes(60), "magic"),
        "safetensors": (u64(16) + b'{"a":{}}        ' + bytes(60), "magic"),
        "ggjt": (b"tjgg" + bytes(60), "magic"),
        "html": (b"<!DOCTYPE html><html></html>", "magic"),
        "version 0": (File(version=0).pack(), "version"),
        "version 1": (File(version=1).pack(), "version"),
        "version 4": (File(version=4).pack(), "version"),
        "version max": (File(version=(1 << 32) - 1).pack(), "version"),
        "big-endian 3": (File(version=3 << 24).pack(), "version"),
        "big-endian 2": (File(version=2 << 24).pack(), "version"),
        "no keys": (File(pairs=[]).pack(), "general.architecture"),
        "counts missing": (b"GGUF" + u32(3), "n_tensors"),
        "n_kv missing": (b"GGUF" + u32(3) + u64(0), "n_kv"),
    }


def _counts() -> dict[str, tuple[bytes, str]]:
    bad = {}
    for count in (*HUGE, 65_537, 65_536, 4):
        bad[f"n_kv {count}"] = (File(n_pairs=count).pack(), "n_kv")
        bad[f"n_tensors {count}"] = (File(n_tensors=count).pack(), "n_tensors")
    bad["n_kv one too many"] = (
        File(n_pairs=2, pairs=[ARCHITECTURE, bytes(20)]).pack(),
        "metadata[1].key",
    )
    return bad


def _keys() -> dict[str, tuple[bytes, str]]:
    n = b"\x01\x00\x00\x00"
    return {
        "key length 2^63": (_pairs(u64(1 << 63) + bytes(64)), "metadata[1].key length"),
        "key length -1": (_pairs(u64(-1) + bytes(64)), "metadata[1].key length"),
        "key past the end": (_pairs(u64(5000) + bytes(64)), "metadata[1].key length"),
        "key above the cap": (_pairs(string("k" * 65_536) + u32(4) + n), "metadata[1].key length"),
        "key empty": (_pairs(pair("", V.UINT32, 1)), "metadata[1].key"),
        "key not utf-8": (_pairs(pair(b"a\xff\xfe", V.UINT32, 1)), "metadata[1].key"),
        "key a surrogate": (_pairs(pair(b"a\xed\xa0\x80", V.UINT32, 1)), "metadata[1].key"),
        "key overlong": (_pairs(pair(b"a\xc0\xaf", V.UINT32, 1)), "metadata[1].key"),
        "key twice": (_pairs(pair("k", V.UINT32, 1), pair("k", V.UINT8, 1)), "k"),
        "architecture twice": (_pairs(ARCHITECTURE), "general.architecture"),
        "key with a newline": (_pairs(string("k\nERROR") + u32(77) + n), r"k\nERROR"),
        "value type 13": (_pairs(string("k") + u32(13) + bytes(8)), "k"),
        "value type max": (_pairs(string("k") + u32(-1) + bytes(8)), "k"),
        "value missing": (_pairs(string("kkkk") + u32(V.UINT64) + b"\x01"), "kkkk"),
        "value type missing": (_pairs(string("kkkkkk")), "kkkkkk"),
        "bool 2": (_pairs(pair("k", V.BOOL, 2)), "k"),
        "bool 255": (_pairs(pair("k", V.BOOL, 255)), "k"),
    }


def _strings() -> dict[str, tuple[bytes, str]]:
    bad = {}
    for length in (*HUGE, (64 << 20) + 1, 1000):
        raw = pair("k", V.STRING, u64(length) + bytes(64))
        bad[f"string of {length}"] = (_pairs(raw), "k length")
        raw = array("k", V.STRING, ["a", "b"]) + b""
        raw = raw[:-9] + u64(length) + b"b"
        bad[f"string {length} in an array"] = (_pairs(raw), "k")
    template = pair("tokenizer.chat_template", V.STRING, "x" * ((1 << 20) + 1))
    bad["template above 1 MiB"] = (_pairs(template), "tokenizer.chat_template length")
    bad["string not utf-8"] = (_pairs(pair("k", V.STRING, string(b"\x80abc"))), "k")
    return bad


def _arrays() -> dict[str, tuple[bytes, str]]:
    bad = {}
    for count in (*HUGE, (16 << 20) + 1, 16 << 20, 1000):
        for kind in (V.UINT8, V.FLOAT64, V.STRING, V.BOOL):
            raw = array("k", kind, [], count) + bytes(32)
            bad[f"array of {count} {kind.name}"] = (_pairs(raw), "k length")
    nested = u32(V.ARRAY) + u64(1)
    bad["nested arrays"] = (_pairs(string("k") + u32(V.ARRAY) + nested * 2 + bytes(32)), "k")
    bad["nested 3000 deep"] = (_pairs(string("k") + u32(V.ARRAY) + nested * 3000), "k")
    bad["nested 2^63 of 2^63"] = (
        _pairs(string("k") + u32(V.ARRAY) + (u32(V.ARRAY) + u64(1 << 63)) * 4),
        "k",
    )
    bad["array of type 13"] = (_pairs(array("k", 13, [], 1) + bytes(8)), "k")
    bad["array of type max"] = (_pairs(array("k", (1 << 32) - 1, [], 1) + bytes(8)), "k")
    bad["array without length"] = (
        _pairs(string("kkkkkk") + u32(V.ARRAY) + u32(4)),
        "kkkkkk length",
    )
    bad["bool array with 7"] = (_pairs(array("k", V.BOOL, [1, 0, 7])), "k")
    return bad


def _alignments() -> dict[str, tuple[bytes, str]]:
    bad = {}
    for value in (0, 1, 3, 4, 33, 48, 1 << 21, 1 << 30, 1 << 31, (1 << 32) - 1):
        raw = pair("general.alignment", V.UINT32, value)
        bad[f"alignment {value}"] = (_tensors(Tensor(), pairs=(raw,)), "general.alignment")
    for kind, value in ((V.UINT64, 32), (V.INT32, 32), (V.FLOAT32, 32), (V.STRING, "32")):
        raw = pair("general.alignment", kind, value)
        bad[f"alignment as {kind.name}"] = (_tensors(Tensor(), pairs=(raw,)), "general.alignment")
    raw = array("general.alignment", V.UINT32, [32])
    bad["alignment as an array"] = (_tensors(Tensor(), pairs=(raw,)), "general.alignment")
    return bad


def _architectures() -> dict[str, tuple[bytes, str]]:
    key = "general.architecture"
    return {
        "architecture missing": (File(pairs=[pair("k", V.BOOL, 1)]).pack(), key),
        "architecture a number": (File(pairs=[pair(key, V.UINT32, 1)]).pack(), key),
        "architecture empty": (File(pairs=[pair(key, V.STRING, "")]).pack(), key),
        "architecture a path": (File(pairs=[pair(key, V.STRING, "../etc")]).pack(), key),
        "architecture long": (File(pairs=[pair(key, V.STRING, "x" * 65)]).pack(), key),
        "architecture an array": (File(pairs=[array(key, V.STRING, ["llama"])]).pack(), key),
    }


def _tensor_tables() -> dict[str, tuple[bytes, str]]:
    shape, offset = "tensors[t].shape", "tensors[t].offset"
    name, label = "tensors[0].name", "tensors[0].name length"
    bad = {
        "name of 64": (_tensors(Tensor("x" * 64)), label),
        "name length 2^63": (_tensors(Tensor(name_bytes=1 << 63)), label),
        "name length -1": (_tensors(Tensor(name_bytes=-1)), label),
        "name empty": (_tensors(Tensor("")), name),
        "name not utf-8": (_tensors(Tensor(b"\xc3\x28")), name),
        "tensor twice": (_tensors(Tensor(), Tensor(offset=32)), "tensors[t]"),
        "row not a block": (_tensors(Tensor(shape=(31,), type=T.Q4_0)), shape),
        "row of 16 in Q8_0": (_tensors(Tensor(shape=(16, 2), type=T.Q8_0)), shape),
        "row of 288 in Q4_K": (_tensors(Tensor(shape=(288,), type=T.Q4_K)), shape),
        "swapped dims": (_tensors(Tensor(shape=(4, 32), type=T.Q8_0)), shape),
        "product wraps": (
            _tensors(Tensor(shape=(4_194_305, 4_194_305, 211_106_198_978_564))),
            offset,
        ),
        "product 2^64": (_tensors(Tensor(shape=(1 << 32, 1 << 32))), offset),
        "bytes wrap": (_tensors(Tensor(shape=(1 << 62,))), offset),
        "data one byte short": (_tensors(Tensor(), n_data=31), offset),
        "no data": (_tensors(Tensor(), n_data=0), offset),
        "one element too many": (_tensors(Tensor(shape=(9,)), n_data=32), offset),
        "offset at the end": (_tensors(Tensor(offset=4096)), offset),
        "offset past the end": (_tensors(Tensor(offset=1 << 40)), offset),
        "offset 2^63": (_tensors(Tensor(offset=1 << 63)), offset),
        "offset wraps": (_tensors(Tensor(offset=(1 << 64) - 32)), offset),
        "offset 1": (_tensors(Tensor(offset=1)), offset),
        "offset 16": (_tensors(Tensor(offset=16)), offset),
        "offset off the file's alignment": (
            _tensors(Tensor(offset=32), pairs=(pair("general.alignment", V.UINT32, 64),)),
            offset,
        ),
        "same place": (_tensors(Tensor("a"), Tensor()), offset),
        "overlap": (_tensors(Tensor("a", (16,)), Tensor(offset=32)), offset),
        "overlap by one row": (_tensors(Tensor(offset=32), Tensor("a", (9,))), offset),
        "overlap, inside": (_tensors(Tensor("a", (64,)), Tensor(offset=64)), offset),
    }
    for n_dims in (0, 5, 1 << 31, (1 << 32) - 1):
        bad[f"n_dims {n_dims}"] = (_tensors(Tensor(shape=(8,) * 5, n_dims=n_dims)), shape)
    for size in (0, 1 << 63, (1 << 64) - 1):
        bad[f"dimension {size}"] = (_tensors(Tensor(shape=(size,))), shape)
        bad[f"second dimension {size}"] = (_tensors(Tensor(shape=(8, size))), shape)
    for number in (4, 5, 31, 36, 99, 1 << 31, (1 << 32) - 1):
        bad[f"type {number}"] = (_tensors(Tensor(type=number)), "tensors[t].type")
    return bad


def _splits() -> dict[str, tuple[bytes, str]]:
    count = pair("split.count", V.UINT16, 3)
    return {
        "part of a split under another name": (_pairs(count), "split.count"),
        "split.count a string": (_pairs(pair("split.count", V.STRING, "3")), "split.count"),
        "split.count -1": (_pairs(pair("split.count", V.INT16, -1)), "split.count"),
        "split.tensors.count wrong": (
            _pairs(pair("split.tensors.count", V.INT32, 7)),
            "split.tensors.count",
        ),
    }


BAD_FILES: dict[str, tuple[bytes, str]] = {
    **_starts(),
    **_counts(),
    **_keys(),
    **_strings(),
    **_arrays(),
    **_alignments(),
    **_architectures(),
    **_tensor_tables(),
    **_splits(),
}

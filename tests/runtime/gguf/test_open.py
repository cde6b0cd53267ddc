"""Sound files: what is read equals what the gguf package's own reader sees."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType

from slotmux.runtime.gguf import GGUFFile, open_gguf
from slotmux.runtime.gguf.part import read_part
from tests.runtime.gguf.writer import ARCHITECTURE, File, array, small_file
from tests.timing import judge

GOLDEN = Path(__file__).parents[2] / "golden"
MODELS = sorted(GOLDEN.glob("*/*.gguf"))


@pytest.fixture
def small(tmp_path: Path) -> GGUFFile:
    (tmp_path / "small.gguf").write_bytes(small_file().pack())
    return open_gguf(tmp_path / "small.gguf")


def test_there_are_golden_files() -> None:
    assert len(MODELS) >= 6


@pytest.mark.parametrize("path", MODELS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_equals_the_reference_reader(path: Path) -> None:
    model, reference = open_gguf(path), GGUFReader(path)
    keys = [key for key in reference.fields if not key.startswith("GGUF.")]
    assert list(model.metadata) == keys
    for key in keys:
        value, wanted = model.metadata[key], reference.fields[key].contents()
        value = value.tolist() if isinstance(value, np.ndarray) else value
        assert value == wanted
        assert type(value) is type(wanted)
    assert model.architecture == reference.fields["general.architecture"].contents()
    assert list(model.tensors) == [tensor.name for tensor in reference.tensors]
    for wanted in reference.tensors:
        tensor = model.tensors[wanted.name]
        assert tensor.shape == tuple(wanted.shape.tolist())
        assert tensor.type is wanted.tensor_type
        assert (tensor.n_bytes, tensor.offset) == (wanted.n_bytes, wanted.data_offset)
        assert np.array_equal(tensor.data, wanted.data.reshape(-1).view(np.uint8))


def test_every_value_type(small: GGUFFile) -> None:
    values = {
        key: value.tolist() if isinstance(value, np.ndarray) else value
        for key, value in small.metadata.items()
    }
    assert values == {
        "general.architecture": "llama",
        "general.alignment": 64,
        "a.u8": 200,
        "a.i8": -5,
        "a.u16": 60_000,
        "a.i16": -6,
        "a.u32": 4_000_000_000,
        "a.i32": -7,
        "a.u64": 1 << 63,
        "a.i64": -8,
        "a.f32": 0.5,
        "a.f64": 0.1,
        "a.yes": True,
        "a.no": False,
        "a.text": "grüß dich",
        "tokenizer.ggml.tokens": ["<s>", "", "é", "🙂 x"],
        "tokenizer.ggml.scores": [0.0, -1.0, -2.0, 3.5],
        "a.heads": [4, 0, 4],
        "a.signed": [4, -1, 4],
        "a.swa": [True, False, True],
        "a.empty": [],
    }


def test_tensors_and_their_data(small: GGUFFile) -> None:
    tensor = small.tensors["blk.0.weight"]
    assert (tensor.shape, tensor.type) == ((4, 3, 2), GGMLQuantizationType.F16)
    assert (tensor.n_elements, tensor.n_bytes, tensor.row_bytes) == (24, 48, 8)
    assert tensor.data.tobytes() == bytes(range(48))
    assert small.tensors["token_embd.weight"].data.tobytes() == bytes(range(136))
    assert small.tensors["token_embd.weight"].row_bytes == 34
    assert small.n_bytes == small.paths[0].stat().st_size


def test_data_and_arrays_are_read_only(small: GGUFFile) -> None:
    for view in (small.tensors["blk.0.bias"].data, small.metadata["a.heads"]):
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1  # type: ignore[index]


def test_arrays_are_aligned_wherever_the_header_puts_them(tmp_path: Path) -> None:
    for n_pad in range(4):
        pad = array("pad", GGUFValueType.UINT8, [0] * n_pad)
        scores = array("scores", GGUFValueType.FLOAT32, [1.0, 2.0])
        path = tmp_path / "m.gguf"
        path.write_bytes(File(pairs=[ARCHITECTURE, pad, scores]).pack())
        found = open_gguf(path).metadata.get_array("scores")
        assert found.flags.aligned
        assert found.tolist() == [1.0, 2.0]


def test_version_2_and_gaps_between_tensors(tmp_path: Path) -> None:
    file = small_file()
    file.version = 2
    file.tensors[2].offset += 64
    file.data = file.data[:256] + bytes(64) + file.data[256:] + b"trailing"
    (tmp_path / "m.gguf").write_bytes(file.pack())
    assert read_part(tmp_path / "m.gguf").version == 2
    tensor = open_gguf(tmp_path / "m.gguf").tensors["blk.0.weight"]
    assert tensor.data.tobytes() == bytes(range(48))


def test_symlink_is_followed_and_str_paths_work(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(small_file().pack())
    (tmp_path / "m.gguf").symlink_to("blob")
    assert open_gguf(str(tmp_path / "m.gguf")).paths == (tmp_path / "m.gguf",)


def test_data_outlives_the_file_object_and_the_name(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(small_file().pack())
    data = open_gguf(tmp_path / "m.gguf").tensors["blk.0.weight"].data
    (tmp_path / "m.gguf").unlink()
    assert data.tobytes() == bytes(range(48))


@pytest.mark.timed
def test_a_large_vocabulary_costs_no_seconds(tmp_path: Path) -> None:
    tokens = [f"▁token{i}" for i in range(250_000)]
    path = tmp_path / "m.gguf"
    pairs = [ARCHITECTURE, array("tokenizer.ggml.tokens", GGUFValueType.STRING, tokens)]  # type: ignore[arg-type]
    path.write_bytes(File(pairs=pairs).pack())
    start = time.perf_counter()
    found = open_gguf(path).metadata.get_strings("tokenizer.ggml.tokens")
    elapsed = time.perf_counter() - start
    assert found == tokens
    judge(elapsed < 1.5)  # 0.1 s on an idle machine

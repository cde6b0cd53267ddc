"""A golden model's file with some keys and tensors changed, for what no golden model has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import quantize


def rewrite(
    source: Path,
    target: Path,
    keys: dict[str, Any] | None = None,
    tensors: dict[str, np.ndarray | None] | None = None,
    to_q8_0: bool = False,
) -> Path:
    """Copy a float32 GGUF file. ``keys`` replaces values; ``tensors`` replaces or adds by name
    (None drops); ``to_q8_0`` quantises every matrix whose rows are multiples of 32."""
    reader = GGUFReader(source)
    arch = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, arch)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = (keys or {}).get(name, field.contents())
        sub_type = field.types[1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, field.types[0], sub_type)
    contents: dict[str, np.ndarray | None] = {t.name: np.array(t.data) for t in reader.tensors}
    for name, data in (contents | (tensors or {})).items():
        if data is None:
            continue
        is_matrix = data.ndim > 1 and name.endswith(".weight") and "conv1d" not in name
        if to_q8_0 and is_matrix and data.shape[-1] % 32 == 0 and "norm" not in name:
            q8_0 = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quantize(data, q8_0), raw_dtype=q8_0)
        else:
            writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target

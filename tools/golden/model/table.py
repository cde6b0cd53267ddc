"""One large tensor of a file in Q8_0, which keeps the folder small and tests that it is read so.

Both references compute with the same numbers: transformers' weights are rounded beforehand, and
llama.cpp reads rows of a table as they are.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import torch
from gguf.quants import dequantize, quantize
from torch import Tensor

TYPE = gguf.GGMLQuantizationType.Q8_0


def rounded(values: Tensor) -> Tensor:
    """``values`` as the type can hold them."""
    return torch.from_numpy(dequantize(quantize(values.numpy(), TYPE), TYPE)).reshape(values.shape)


def store_table(path: Path, name: str) -> None:
    """Rewrite the file with the tensor ``name`` in the type."""
    reader, out = gguf.GGUFReader(path), path.with_suffix(".table")
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        item = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=item)
    for tensor in reader.tensors:
        values = np.ascontiguousarray(tensor.data)
        if tensor.name == name:
            writer.add_tensor(name, quantize(values, TYPE), raw_dtype=TYPE)
        else:
            writer.add_tensor(tensor.name, values, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    out.replace(path)

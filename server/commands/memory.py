"""How much memory serving a model file takes, from its header alone."""

from __future__ import annotations

from runtime.gguf import GGUFFile
from server.commands.options import CommandError

BYTES_PER_VALUE = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32}


def memory_needed(
    file: GGUFFile, n_slots: int, n_ctx: int, cache_type_k: str, cache_type_v: str
) -> dict[str, int]:
    """Bytes of weights and of KV cells for ``n_slots`` sequences of ``n_ctx`` tokens (0: as many
    as the model was trained for). Buffers of a step come on top, a few MiB for each slot."""
    n_ctx = n_ctx or file.metadata.get_u32(f"{file.architecture}.context_length")
    cell = cell_bytes(file, cache_type_k, cache_type_v)
    weights = sum(tensor.n_bytes for tensor in file.tensors.values())
    kv = round(cell * n_ctx * n_slots)
    return {
        "n_slots": n_slots,
        "n_ctx": n_ctx,
        "weights_bytes": weights,
        "cell_bytes": round(cell),
        "kv_bytes": kv,
        "total_bytes": weights + kv,
    }


def cell_bytes(file: GGUFFile, cache_type_k: str, cache_type_v: str) -> float:
    """Bytes that one token takes in the cells of all layers."""
    for flag, name in (("--cache-type-k", cache_type_k), ("--cache-type-v", cache_type_v)):
        if name not in BYTES_PER_VALUE:
            raise CommandError(f"{flag} is one of {', '.join(BYTES_PER_VALUE)}")
    architecture, metadata = file.architecture, file.metadata
    n_layers = metadata.get_u32(f"{architecture}.block_count")
    n_heads = metadata.per_layer(f"{architecture}.attention.head_count", n_layers, 0)
    key = f"{architecture}.attention.head_count_kv"
    n_kv_heads = metadata.per_layer(key, n_layers, 0) if key in metadata else n_heads
    if not any(n_kv_heads):
        return 0.0
    n_embd = metadata.get_u32(f"{architecture}.embedding_length")
    head_size = n_embd // max(max(n_heads), 1)
    n_k = metadata.get_u32(f"{architecture}.attention.key_length", head_size)
    n_v = metadata.get_u32(f"{architecture}.attention.value_length", head_size)
    per_head = n_k * BYTES_PER_VALUE[cache_type_k] + n_v * BYTES_PER_VALUE[cache_type_v]
    return sum(n_kv_heads) * per_head

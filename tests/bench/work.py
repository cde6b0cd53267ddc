"""The bytes that a step must read and the operations that a token needs, from the file alone.

The same numbers for every program that is measured: what the model asks for, not what a program
says of itself. Read and written once a step: the weights in the file's own types, K and V of every
cell in 16 bits, recurrent state in 32. A multiply-add is two operations; attention and scans are
not counted among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from slotmux.runtime.gguf import GGUFFile, open_gguf
from tests.bench.cases import SpeedTest


@dataclass(frozen=True, slots=True)
class Work:
    """``windows``: for each attention layer the bytes of a cell and the most cells looked at
    (0: all)."""

    weight_bytes: int
    expert_bytes: int
    n_experts: int
    n_used: int
    ops_per_token: float
    windows: tuple[tuple[int, int], ...]
    state_bytes: int

    def bytes_per_step(self, n_parallel: int, n_cells: float) -> float:
        """Of a step that generates one token for each sequence, ``n_cells`` deep."""
        cells = sum(n * min(n_cells, most or n_cells) for n, most in self.windows)
        own = cells + 2 * self.state_bytes
        return self.weight_bytes + self._experts(n_parallel) + n_parallel * own

    def bytes_per_second(self, test: SpeedTest, tokens_per_second: float) -> float:
        """What a generation at this speed reads: half of its tokens are behind it on average."""
        steps = tokens_per_second / test.n_parallel
        return steps * self.bytes_per_step(test.n_parallel, test.depth + test.n / 2)

    def _experts(self, n_tokens: int) -> float:
        """Expected bytes of the experts that ``n_tokens`` choose, each as likely as any other."""
        if not self.n_experts:
            return 0.0
        return self.expert_bytes * (1 - (1 - self.n_used / self.n_experts) ** n_tokens)


def work_of(path: Path) -> Work:
    """Read a file's headers."""
    file = open_gguf(path)
    meta, arch = file.metadata, file.architecture
    n_experts = meta.get_u32(f"{arch}.expert_count", 0)
    n_used = meta.get_u32(f"{arch}.expert_used_count", 0)
    n_trunk = meta.get_u32(f"{arch}.block_count") - meta.get_u32(f"{arch}.nextn_predict_layers", 0)
    weights = experts = 0
    ops = 0.0
    for name, tensor in file.tensors.items():
        layer = _layer(name)
        if (layer is not None and layer >= n_trunk) or not _is_read(file, name):
            continue
        is_expert = "_exps." in name
        experts += tensor.n_bytes if is_expert else 0
        weights += 0 if is_expert else tensor.n_bytes
        if layer is not None and len(tensor.shape) > 1 and "conv" not in name:
            ops += 2 * prod(tensor.shape) * (n_used / n_experts if is_expert else 1)
    return Work(weights, experts, n_experts, n_used, ops, _windows(file, n_trunk), _state(file))


def _layer(name: str) -> int | None:
    return int(name.split(".")[1]) if name.startswith("blk.") else None


def _is_read(file: GGUFFile, name: str) -> bool:
    """An embedding table that is not the output matrix as well is read a row at a time."""
    return name != "token_embd.weight" or "output.weight" not in file.tensors


def _windows(file: GGUFFile, n_trunk: int) -> tuple[tuple[int, int], ...]:
    """Bytes of a cell (16 bits a number) and window of each layer with attention."""
    meta, arch = file.metadata, file.architecture
    window = meta.get_u32(f"{arch}.attention.sliding_window", 0)
    period = 6 if arch == "gemma3" else 1  # gemma3: every sixth layer sees all
    found = []
    for i in range(n_trunk):
        n_values = _cell_width(file, i)
        is_windowed = window and (period == 1 or (i + 1) % period)
        if n_values:
            found.append((2 * n_values, window if is_windowed else 0))
    return tuple(found)


def _cell_width(file: GGUFFile, layer: int) -> int:
    """Numbers of K and V of one cell: rows of the matrices that make them."""
    tensors = file.tensors
    names = [f"blk.{layer}.attn_{part}.weight" for part in "kv"]
    if names[0] in tensors:
        return sum(tensors[name].shape[1] for name in names)
    fused, query = tensors.get(f"blk.{layer}.attn_qkv.weight"), f"blk.{layer}.attn_output.weight"
    if fused is not None and query in tensors:  # the rest of q, k and v in one
        return fused.shape[1] - tensors[query].shape[0]
    return 0


def _state(file: GGUFFile) -> int:
    """Bytes of one sequence's recurrent state, in 32 bits."""
    meta, arch = file.metadata, file.architecture
    inner, state = (meta.get_u32(f"{arch}.ssm.{k}_size", 0) for k in ("inner", "state"))
    head, n_embd = (meta.get_u32(f"{arch}.{k}", 0) for k in ("wkv.head_size", "embedding_length"))
    n_scans = sum(name.endswith(".ssm_out.weight") for name in file.tensors)
    n_wkv = sum(name.endswith(".time_mix_output.weight") for name in file.tensors)
    return 4 * (n_scans * inner * state + n_wkv * head * n_embd)

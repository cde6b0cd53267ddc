"""How many bytes of a file's weights one forward reads."""

from __future__ import annotations

from collections.abc import Mapping

from slotmux.runtime.gguf import GGUFFile

# Beside token_embd.weight: of Gemma 3n and 4, which leave theirs in the file, and of GPT-2.
ROW_TABLES = {"per_layer_token_embd.weight", "position_embd.weight"}


def bytes_per_forward(file: GGUFFile, n_tokens: int = 1) -> int:
    """Bytes of weights, as stored in the file, that a forward of ``n_tokens`` reads.

    Of tables, of which a token takes a row, nothing counts unless they are the output matrix, too,
    of experts those that the tokens are expected to choose, of a prediction (MTP) block nothing.
    """
    is_tied = "output.weight" not in file.tensors
    tables = ROW_TABLES if is_tied else {"token_embd.weight", *ROW_TABLES}
    n_trunk = _n_trunk_blocks(file)
    share = _expert_share(file, n_tokens)
    n_bytes = 0.0
    for name, tensor in file.tensors.items():
        if name in tables:
            continue
        if name.startswith("blk.") and int(name.split(".")[1]) >= n_trunk:
            continue
        n_bytes += tensor.n_bytes * (share if "_exps." in name else 1.0)
    return round(n_bytes)


def _n_trunk_blocks(file: GGUFFile) -> int:
    from slotmux.runtime.models.hparams import read_hparams

    return read_hparams(file).n_layers


def _expert_share(file: GGUFFile, n_tokens: int) -> float:
    """Of all experts those that ``n_tokens`` choose, each as likely as any other."""
    n_experts = file.metadata.get_u32(f"{file.architecture}.expert_count", 0)
    n_used = file.metadata.get_u32(f"{file.architecture}.expert_used_count", 0)
    return 1.0 - (1.0 - n_used / n_experts) ** n_tokens if n_experts else 1.0


def bytes_by_type(file: GGUFFile) -> Mapping[str, tuple[int, int]]:
    """Per tensor type, the number of tensors and their bytes; the largest first."""
    totals: dict[str, tuple[int, int]] = {}
    for tensor in file.tensors.values():
        n_tensors, n_bytes = totals.get(tensor.type.name, (0, 0))
        totals[tensor.type.name] = (n_tensors + 1, n_bytes + tensor.n_bytes)
    return dict(sorted(totals.items(), key=lambda item: -item[1][1]))

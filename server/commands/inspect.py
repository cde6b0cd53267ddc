"""`slotmux inspect`: what a model file holds and what it needs, without loading it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from slotmux.server.commands.flags import takes_settings
from slotmux.server.commands.options import JsonOpt, ModelArg
from slotmux.server.loading.locate import locate
from slotmux.server.settings import Settings

if TYPE_CHECKING:
    from slotmux.runtime.gguf import GGUFFile
    from slotmux.server.loading.budget import Budget

MAX_VALUE_CHARS = 60
MAX_LISTED = 8


@takes_settings(
    "ctx_size", "kv_size", "parallel", "threads", "batch_size", "ubatch_size", "isa",
    "cache_type_k", "cache_type_v", "prefix_cache_bytes", "ctx_checkpoints", "prefix_cache_dir",
    "mem_limit", "numa", "pooling", "embeddings", "reranking", "spec_type", "spec_draft_n_max",
)  # fmt: skip
def inspect(
    settings: Settings,
    model: ModelArg,
    as_json: JsonOpt = False,
) -> None:
    """Print a model's hyper-parameters, its tensor types, and the memory that serving it with the
    same flags needs."""
    from slotmux.runtime.gguf import open_gguf
    from slotmux.server.commands.weights import bytes_by_type
    from slotmux.server.loading.plan import make_plan

    file = open_gguf(locate(model, settings))
    plan = make_plan(settings, file)
    memory = plan.budget
    warnings = find_warnings(file)
    types = bytes_by_type(file)
    if as_json:
        report = {
            "files": [str(path) for path in file.paths],
            "architecture": file.architecture,
            "n_params": file.n_params,
            "metadata": {key: _plain(file.metadata[key]) for key in file.metadata},
            "tensor_types": {name: {"n": n, "bytes": size} for name, (n, size) in types.items()},
            "memory": _memory_report(memory),
            "fits": memory.total_bytes <= plan.limit.n_bytes,
            "remedy": plan.remedy,
            "warnings": warnings,
        }
        print(json.dumps(report))
        return
    console = Console()
    _print_metadata(console, file)
    _print_types(console, types)
    _print_memory(console, memory)
    if memory.total_bytes > plan.limit.n_bytes:
        line = "; ".join(filter(None, (f"the limit is {plan.limit}", plan.remedy)))
        console.print(f"[yellow]does not fit:[/] {line}", highlight=False, soft_wrap=True)
    for warning in warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False, soft_wrap=True)


def find_warnings(file: GGUFFile) -> list[str]:
    """What is wrong with a planned file that can be served all the same: what planning does not
    look at is looked at here."""
    from slotmux.runtime.gguf import ModelFileError
    from slotmux.runtime.tokenizer import Tokenizer
    from slotmux.server.templates.chat_template import file_template

    try:
        file_template(file.metadata, Tokenizer.from_metadata(file.metadata))
    except ModelFileError as error:
        file.metadata.warn(error.field, f"{error.reason}; this file cannot be served")
    return file.metadata.warnings


def _print_metadata(console: Console, file: GGUFFile) -> None:
    name = file.metadata.tolerant("general.name", file.paths[0].name, file.metadata.get_str)
    console.print(
        f"[bold]{escape(name)}[/]  {file.architecture}, {file.n_params / 1e6:.1f}M parameters,"
        f" {_size(file.n_bytes)} in {len(file.paths)} file(s)",
        highlight=False,
    )
    table = _table("Hyper-parameters", "key", "value")
    for key in file.metadata:
        table.add_row(key, escape(_summary(file.metadata[key])))
    console.print(table)


def _print_types(console: Console, types: Any) -> None:
    table = _table("Tensors", "type", "tensors", "bytes")
    for name, (n_tensors, n_bytes) in types.items():
        table.add_row(name, str(n_tensors), _size(n_bytes))
    console.print(table)


def _print_memory(console: Console, memory: Budget) -> None:
    table = _table("Memory", "what", "bytes")
    table.add_row("weights", _size(memory.weights_bytes))
    cells = f"{memory.n_cells} KV cells, {memory.n_slots} slots of up to {memory.n_ctx} tokens"
    table.add_row(cells, _size(memory.kv_bytes))
    if memory.state_bytes:
        states = f"recurrent states of {memory.n_slots} slots"
        table.add_row(states, _size(memory.state_bytes))
    table.add_row("kept prefixes beside those", _size(memory.cache_bytes))
    table.add_row("buffers of a step", _size(memory.sizes.buffers))
    table.add_row("together, with the process itself", _size(memory.total_bytes))
    console.print(table)


def _memory_report(memory: Budget) -> dict[str, int]:
    return {
        "n_slots": memory.n_slots,
        "n_ctx": memory.n_ctx,
        "weights_bytes": memory.weights_bytes,
        "cell_bytes": round(memory.sizes.cell),
        "kv_bytes": memory.kv_bytes,
        "row_bytes": memory.sizes.row,
        "state_bytes": memory.state_bytes,
        "prefix_cache_bytes": memory.cache_bytes,
        "buffer_bytes": memory.sizes.buffers,
        "total_bytes": memory.total_bytes,
    }


def _table(title: str, *headings: str) -> Table:
    # Names stand whole on a line; what is beside them gives way.
    columns = (Column(h, overflow="fold", no_wrap=i == 0) for i, h in enumerate(headings))
    return Table(*columns, box=None, title=f"\n{title}", title_justify="left", title_style="bold")


def _plain(value: Any) -> Any:
    """A metadata value as JSON; an array as its length and first items."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list) and len(value) > MAX_LISTED:
        return {"length": len(value), "first": value[:MAX_LISTED]}
    return value


def _summary(value: Any) -> str:
    """A metadata value in one short line that no control character leaves."""
    plain = _plain(value)
    if isinstance(plain, dict):
        text = f"{plain['length']} items: {plain['first']}"
    elif isinstance(plain, str):
        text = ascii(plain)[1:-1]
    else:
        text = f"{plain:g}" if isinstance(plain, float) else str(plain)
    return text if len(text) <= MAX_VALUE_CHARS else text[:MAX_VALUE_CHARS] + "..."


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.1f} MiB"

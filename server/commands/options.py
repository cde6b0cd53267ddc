"""Command-line options, each also a SLOTMUX_* variable, and those that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from slotmux.runtime.errors import SlotmuxError
from slotmux.server.settings import env_name


class CommandError(SlotmuxError):
    """A command cannot do what it was asked; the message is for the person who typed it."""


def option(flag: str, *short: str, help: str, **settings: Any) -> Any:
    """A typer.Option that is also read from the environment."""
    return typer.Option(
        flag, *short, help=help, envvar=env_name(flag), show_envvar=False, **settings
    )


def argument(name: str, help: str, **settings: Any) -> Any:
    """A positional argument."""
    return typer.Argument(metavar=name, help=help, show_default=False, **settings)


MODEL_HELP = "GGUF file, hf:USER/REPO[:QUANT], or 'demo' (13 M parameters, in the package)."

ModelArg = Annotated[str, argument("MODEL", MODEL_HELP)]
ThreadsOpt = Annotated[
    int, option("--threads", "-t", min=0, help="Threads of the team; 0: one per physical core.")
]
UbatchOpt = Annotated[
    int, option("--ubatch-size", "--ubatch", "-ub", min=1, help="Most tokens of one forward.")
]
IsaOpt = Annotated[
    str,
    option(
        "--isa",
        help="Instruction set of the kernels: auto, avx512bf16, avx512vbmi, avx512vnni, avxvnni, "
        "avx2 or portable.",
    ),
]
CacheTypeKOpt = Annotated[str, option("--cache-type-k", help="Type of K cells: f16, f32 or q8_0.")]
CacheTypeVOpt = Annotated[str, option("--cache-type-v", help="Type of V cells: f16, f32 or q8_0.")]
JsonOpt = Annotated[bool, option("--json", help="Print JSON instead of a table.")]


def parse_counts(text: str, flag: str, minimum: int) -> list[int]:
    """A comma-separated list of integers, such as 0,4096. Raises typer.BadParameter."""
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{flag} takes integers separated by commas") from None
    if min(counts) < minimum:
        raise typer.BadParameter(f"{flag} takes integers of at least {minimum}")
    return counts

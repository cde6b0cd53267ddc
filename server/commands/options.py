"""Command-line options, each also a SLOTMUX_* variable, and those that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from slotmux.server.settings import env_name


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

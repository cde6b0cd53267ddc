"""The `slotmux` command: names its subcommands and turns expected errors into one line."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.markup import escape

from slotmux.runtime.engine.request import SlotmuxError
from slotmux.server.commands.bench import bench
from slotmux.server.commands.crossbleed import crossbleed
from slotmux.server.commands.inspect import inspect
from slotmux.server.commands.logits import logits
from slotmux.server.commands.perplexity import perplexity
from slotmux.server.commands.serve import serve
from slotmux.server.commands.tokenize import tokenize
from slotmux.server.settings import SettingsError

EXIT_UNUSABLE = 2  # what was asked for cannot be done: a bad file, a bad flag, too little memory

app = typer.Typer(
    name="slotmux",
    help="OpenAI-compatible inference server for GGUF models on CPUs: many users at once, each "
    "with the answer they would get alone. Every flag can also be set in the environment: "
    "--ctx-size is SLOTMUX_CTX_SIZE.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(rich_help_panel="Serve")(serve)
app.command(rich_help_panel="Measure and test")(bench)
app.command(rich_help_panel="Measure and test")(perplexity)
app.command(rich_help_panel="Measure and test")(crossbleed)
app.command(rich_help_panel="Look inside")(inspect)
app.command(rich_help_panel="Look inside")(tokenize)
app.command(rich_help_panel="Look inside")(logits)


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except (SlotmuxError, SettingsError, OSError) as error:
        Console(stderr=True).print(f"[bold red]slotmux:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(EXIT_UNUSABLE)


if __name__ == "__main__":
    main()

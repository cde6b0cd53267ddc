"""The `slotmux` command: names its subcommands and turns expected errors into one line."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from slotmux.runtime.errors import SlotmuxError
from slotmux.server.commands.bench import bench
from slotmux.server.commands.chat import chat
from slotmux.server.commands.crossbleed import crossbleed
from slotmux.server.commands.inspect import inspect
from slotmux.server.commands.logits import logits
from slotmux.server.commands.perplexity import perplexity
from slotmux.server.commands.ps import ps
from slotmux.server.commands.serve import ServeCommand, serve
from slotmux.server.commands.stored_models import list_models, pull, rm
from slotmux.server.commands.tokenize import tokenize
from slotmux.server.commands.top import top
from slotmux.server.config_error import in_words
from slotmux.server.settings import SettingsError
from slotmux.server.version import slotmux_version

EXIT_UNUSABLE = 2  # what was asked for cannot be done: a bad file, a bad flag, too little memory

app = typer.Typer(
    name="slotmux",
    help="OpenAI-compatible inference server for GGUF models on CPUs: many users at once, each "
    "with the answer they would get alone. Every flag can also be set in the environment: "
    "--ctx-size is SLOTMUX_CTX_SIZE.",
    no_args_is_help=True,
    add_completion=False,
    # Plain: the boxes of the other kind cut long names where a terminal has 80 columns.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(slotmux_version())
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """What stands before a command."""


app.command(rich_help_panel="Serve", cls=ServeCommand)(serve)
app.command(rich_help_panel="Serve")(chat)
app.command(rich_help_panel="Models")(pull)
app.command("list", rich_help_panel="Models")(list_models)
app.command(rich_help_panel="Models")(rm)
app.command(rich_help_panel="Look at a server")(ps)
app.command(rich_help_panel="Look at a server")(top)
app.command(rich_help_panel="Measure and test")(bench)
app.command(rich_help_panel="Measure and test")(perplexity)
app.command(rich_help_panel="Measure and test")(crossbleed)
app.command(rich_help_panel="Look inside")(inspect)
app.command(rich_help_panel="Look inside")(tokenize)
app.command(rich_help_panel="Look inside")(logits)
# As Ollama calls them.
app.command("run", hidden=True)(chat)
app.command("ls", hidden=True)(list_models)
app.command("show", hidden=True)(inspect)


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except (SlotmuxError, SettingsError, OSError) as error:
        Console(stderr=True).print(
            f"[bold red]slotmux:[/] {escape(in_words(error))}", soft_wrap=True
        )
        sys.exit(EXIT_UNUSABLE)


if __name__ == "__main__":
    main()

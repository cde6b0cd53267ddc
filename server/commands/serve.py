"""`slotmux serve`: settings from flags and environment, a model from a file, an HTTP server."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand

from slotmux.server.commands.flags import with_settings_flags
from slotmux.server.commands.llama_options import translate, variable_notes
from slotmux.server.settings import Settings, SettingsError, told_as, variables_beginning


class ServeCommand(TyperCommand):
    """Takes llama-server's command line too, and says where it means something else here."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {name for param in self.params for name in (*param.opts, *param.secondary_opts)}
        translation = translate(args, known)
        notes = [*translation.notes, *variable_notes(variables_beginning("LLAMA_"))]
        if not ctx.resilient_parsing:
            for note in notes:
                typer.echo(f"slotmux: {note}", err=True)
        return super().parse_args(ctx, translation.args)


@with_settings_flags
def serve(**flags: Any) -> None:
    """Serve a model over the OpenAI API, to as many clients at once as there are slots.

    The server listens from the first moment and answers 503 until the model is loaded. SIGTERM or
    Ctrl-C lets running answers finish (--drain-timeout), a second one ends at once.

    Each flag can also be set in the environment: --ctx-size is SLOTMUX_CTX_SIZE.
    """
    from slotmux.server.settings import load_settings

    settings = load_settings(**flags)
    if settings.serves_several:
        raise typer.Exit(_serve_several(settings, flags))
    from slotmux.server.loading.assemble import assemble, check_file
    from slotmux.server.process.serve import run

    check_file(settings)
    raise typer.Exit(run(settings, lambda: assemble(settings), _variables_of_commands()))


def _serve_several(settings: Settings, flags: dict[str, Any]) -> int:
    """The process that chooses among models; it loads none itself."""
    from slotmux.server.router.run import run_router

    if settings.model is not None:
        raise SettingsError(
            f"{told_as('models_dir')}: a request chooses the model; leave out {settings.model}, or"
            " name it in --models-config"
        )
    return run_router(settings, flags, _variables_of_commands())


def _variables_of_commands() -> set[str]:
    """SLOTMUX_ names that flags of the other commands read."""
    from slotmux.server.commands.bench import bench
    from slotmux.server.commands.chat import chat
    from slotmux.server.commands.crossbleed import crossbleed
    from slotmux.server.commands.inspect import inspect
    from slotmux.server.commands.logits import logits
    from slotmux.server.commands.perplexity import perplexity
    from slotmux.server.commands.ps import ps
    from slotmux.server.commands.stored_models import list_models, pull, rm
    from slotmux.server.commands.tokenize import tokenize
    from slotmux.server.commands.top import top

    measuring = (bench, crossbleed, inspect, logits, perplexity, tokenize)
    names = set()
    for command in (*measuring, chat, pull, list_models, rm, ps, top):
        for hint in get_type_hints(command, include_extras=True).values():
            names |= {str(getattr(meta, "envvar", "")) for meta in get_args(hint)[1:]}
    return names

"""Flags made from Settings: names, types and defaults come from there, words and order from here.
`slotmux serve` has all of them, other commands some."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from slotmux.runtime.sampling.params import NUMBERS
from slotmux.runtime.sampling.told import Flag
from slotmux.server.commands.options import MODEL_HELP
from slotmux.server.settings import Settings, load_settings

POSITIONAL = "model"


_NUMBERS = {
    number.told.setting or name: number.told.flag
    for name, number in NUMBERS.items()
    if number.told.flag is not None
}
PANELS: dict[str, dict[str, Flag]] = {
    "Model and memory": {
        "parallel": Flag("Requests served at the same time (slots).", ("-np",)),
        "ctx_size": Flag(
            "Most tokens of one request (llama-server: of all slots together); 0: as trained, at"
            " most 32768.",
            ("-c",),
        ),
        "kv_size": Flag("KV cells shared by all slots; 0: --ctx-size for each slot."),
        "threads": Flag("Threads of the team; 0: one per physical core.", ("-t",)),
        "batch_size": Flag("Upper bound of --ubatch-size, as in llama-server.", ("-b",)),
        "ubatch_size": Flag("Most tokens of one forward.", ("--ubatch", "-ub")),
        "prompt_tokens_beside": Flag(
            "Most prompt tokens of a forward while others generate: bounds their pauses;"
            " 0: whatever fits."
        ),
        "max_step_ms": Flag(
            "Milliseconds that a forward with prompt tokens may take while others generate, or four"
            " plain forwards if that is more; 0: no bound.",
            metavar="MS",
        ),
        "isa": Flag("Instruction set of the kernels."),
        "cache_type_k": Flag("Type of K cells.", ("-ctk",)),
        "cache_type_v": Flag("Type of V cells.", ("-ctv",)),
        "prefix_cache_bytes": Flag(
            "Bytes of kept prefixes (cells, recurrent states and their index) beside what the slots"
            " need; -1: half of what is free, at most 1 GiB; 0: only what slots leave."
        ),
        "ctx_checkpoints": Flag(
            "Most states of recurrent layers kept for reuse, per slot; -1: as many as"
            " --prefix-cache-bytes holds; 0: none."
        ),
        "prefix_cache_dir": Flag(
            "Folder that keeps computed prompts beyond memory and restarts; default: none."
        ),
        "prefix_cache_disk_bytes": Flag("Most bytes in --prefix-cache-dir."),
        "pin_threads": Flag("Tie kernel threads to CPUs: for large machines that do nothing else."),
        "numa": Flag(
            "Several memory nodes: distribute (threads on all of them, each with its part of the"
            " weights), isolate or isolate:NODE (this process on one), numactl (as started).",
            metavar="HOW",
        ),
        "panel_cache": Flag(
            "Keep repacked weights on disk (as large as the model): the next start maps them."
        ),
        "mem_limit": Flag(
            "Refuse to start above this many bytes; 0: what is available now, to this machine and"
            " its control groups."
        ),
        "poison_freed": Flag("Debugging: fill freed memory with NaN."),
        "cache_dir": Flag("Downloads and compiled kernels; default: the user's cache folder."),
        "hf_token": Flag("Token for the Hugging Face hub (also HF_TOKEN)."),
        "hf_endpoint": Flag("Address of the hub (also HF_ENDPOINT)."),
    },
    "Embeddings": {
        "pooling": Flag("What a text's vector is; file: as the model file says."),
        "embeddings": Flag(
            "Give vectors (POST /v1/embeddings) and generate nothing.", ("--embedding",)
        ),
        "reranking": Flag("Rank documents (POST /v1/rerank): as --pooling rank.", ("--rerank",)),
    },
    "Several models": {
        "models_dir": Flag(
            "Serve the GGUF files of this folder, each in a process of its own, loaded when a"
            " request names it."
        ),
        "models_config": Flag(
            "Models and their options: .ini as llama-server's --models-preset, .toml or .json.",
            ("--models-preset",),
        ),
        "models_max": Flag("Models loaded at the same time; 0: as many as memory allows."),
        "models_autoload": Flag("Load a model when a request names it; else POST /models/load."),
        "keep_alive": Flag(
            "How long an idle model stays loaded: 5m, 90 (seconds), 0; -1: until its memory is"
            " needed.",
            metavar="TIME",
        ),
        "load_timeout": Flag("Seconds that a model may take to load, downloads not counted."),
    },
    "Listening and access": {
        "host": Flag("Address to listen on; others than loopback need an API key."),
        "port": Flag("Port to listen on; 0: any free one."),
        "alias": Flag("Names that requests may call the model by, separated by commas.", ("-a",)),
        "api_key": Flag("Accepted API keys, separated by commas."),
        "api_key_file": Flag("File of accepted API keys, one a line."),
        "insecure_no_key": Flag("Listen beyond loopback without a key: something else guards."),
        "cors_origins": Flag("Origins that browsers may call from, separated by commas; *: any."),
        "allowed_hosts": Flag("Further names that clients may call this server by."),
        "metrics": Flag("Who may read /metrics."),
        "slots": Flag("Who may read /slots."),
        "props": Flag("Who may read /props."),
        "webui": Flag("The page for browsers at /."),
        "slot_save_path": Flag(
            "Folder in which POST /slots/ID saves what a slot has computed; default: none."
        ),
    },
    "Answers": {
        "n_predict": Flag(
            "Tokens of an answer when a request does not say; -1: no bound.", ("-n",)
        ),
        "chat_template_file": Flag("Jinja template to use instead of the model's own."),
    },
    "Sampling, where a request does not say": {
        **_NUMBERS,
        "samplers": Flag(
            "Which samplers, in which order: names separated by semicolons, or letters."
            " [default: edskypmxt]",
            ("--sampler-seq", "--sampling-seq"),
        ),
        "seed": Flag("Seed; -1: a random one for each request. [default: -1]", ("-s",)),
    },
    "Speculative decoding": {
        "spec_type": Flag(
            "Where drafts come from, separated by commas: draft-mtp (the model's own block for"
            " multi-token prediction), ngram (what the text already said); none; auto: draft-mtp"
            " if the model has it. Answers are the same, bit for bit. [default: auto]"
        ),
        "spec_draft_n_max": Flag("Most drafts that a step verifies of one request."),
        "spec_draft_n_min": Flag("Fewest drafts that are worth a verification."),
        "spec_draft_p_min": Flag(
            "Least probability of a draft of the model's own block, 0 to 1.", metavar="P"
        ),
    },
    "Limits and times": {
        "max_queue": Flag(
            "Requests that may wait; more are answered 429. With several API keys each has a share."
        ),
        "max_connections": Flag("Connections open at the same time."),
        "header_timeout": Flag("Seconds to send the headers of a request."),
        "body_timeout": Flag("Seconds to send the body of a request."),
        "queue_timeout": Flag("Seconds a request may wait for a slot."),
        "first_token_timeout": Flag(
            "Seconds in which a prompt makes no progress; a long one may take longer."
        ),
        "request_timeout": Flag(
            "Seconds from admission on, after which a request ends with what it has."
        ),
        "write_timeout": Flag("Seconds a client may take to read what was sent."),
        "sse_ping_interval": Flag("Seconds of silence after which a stream gets a comment."),
        "hang_timeout": Flag(
            "Seconds in which no kernel ends, after which the process does (status 70)."
        ),
        "drain_timeout": Flag("Seconds that running requests get after SIGTERM."),
        "log_format": Flag("Lines for people (text) or for programs; auto: text on a terminal."),
        "log_level": Flag("Least severe log lines to write."),
        "kv_events_config": Flag(
            "Publish events of the prefix cache over ZeroMQ for routers such as llm-d's, told as to"
            ' vLLM: \'{"enable_kv_cache_events": true, "endpoint": "tcp://*:5557"}\''
            " (needs slotmux[events]).",
            metavar="JSON",
        ),
        "otel_endpoint": Flag(
            "Send OpenTelemetry traces and metrics by OTLP over HTTP to this address, such as"
            " http://localhost:4318 (needs slotmux[otel]).",
            metavar="URL",
        ),
    },
}


def with_settings_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``command``, which takes **flags, one option a setting. A flag that is not given is
    None, so that the environment and then the default decide."""
    parameters = [_model_argument()]
    for panel, flags in PANELS.items():
        parameters += [_option(name, flag, panel) for name, flag in flags.items()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def takes_settings(
    *names: str, spec_type: str = "none"
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorates a command whose first parameter is ``settings``: it gets flags for these, after
    its own options. Whoever serves nobody drafts nothing, unless ``spec_type`` says so, or the
    flag of that name."""
    fixed = {} if "spec_type" in names else {"spec_type": (spec_type,)}
    helps = {name: flag for flags in PANELS.values() for name, flag in flags.items()}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)
        options = [_option(name, helps[name], None) for name in names]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            flags = {name: given.pop(name) for name in names}
            settings = load_settings(insecure_no_key=True, **fixed, **flags)
            command(settings, **given)

        parameters = [*list(own.parameters.values())[1:], *options]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _model_argument() -> inspect.Parameter:
    help = f"{MODEL_HELP} [default: SmolLM2-135M-Instruct]"
    default = typer.Argument(None, metavar="MODEL", help=help, show_default=False)
    return inspect.Parameter(
        POSITIONAL, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=str | None
    )


def _option(name: str, flag: Flag, panel: str | None) -> inspect.Parameter:
    field = Settings.model_fields[name]
    kind = _value_type(field.annotation)
    long = "--" + name.replace("_", "-")
    names = (f"{long}/--no-{name.replace('_', '-')}",) if kind is bool else (long,)
    default = typer.Option(
        None,
        *names,
        *flag.short,
        help=f"{flag.help}{_choices(field.annotation)}{_default(field)}",
        metavar=flag.metavar or _metavar(kind),
        show_default=False,
        rich_help_panel=panel,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind | None
    )


def _value_type(annotation: Any) -> type:
    """What the command line parses; Settings checks ranges and choices, and names the flag."""
    options = _without_none(annotation)
    return options if options in (int, float, bool) else str


def _without_none(annotation: Any) -> Any:
    """The one type of ``X | None`` and of ``Annotated[X, ...]``."""
    if get_origin(annotation) is typing.Annotated:
        return _without_none(get_args(annotation)[0])
    if get_origin(annotation) in (types.UnionType, typing.Union):
        return _without_none(next(a for a in get_args(annotation) if a is not type(None)))
    return annotation


def _choices(annotation: Any) -> str:
    kind = _without_none(annotation)
    if get_origin(kind) is not Literal:
        return ""
    return f" One of {', '.join(get_args(kind))}."


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value is False or isinstance(value, tuple | SecretStr):
        return ""
    return f" [default: {value}]"


def _metavar(kind: type) -> str | None:
    return {int: "N", float: "SECONDS", str: "TEXT"}.get(kind)

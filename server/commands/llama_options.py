"""llama-server's options on `slotmux serve`: each works, or is told what to use instead.

Options that both have under one name and meaning are not here: they are flags of Settings.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from slotmux.server.settings import SettingsError, env_name, flag_name

Value = Literal["none", "one", "maybe"]
Rule = Literal["renamed", "needless", "refused"]

MODEL = "MODEL"  # becomes the positional argument
ACCESS = frozenset({"key", "public", "off"})
_SWITCH = frozenset({"on", "off", "auto"})


@dataclass(frozen=True, slots=True)
class Option:
    """One option of llama-server. ``becomes``: our words for it, with {} for its value. ``text``:
    why it is needless, or what to use instead. ``values``: what may follow where a value may."""

    names: tuple[str, ...]
    rule: Rule
    value: Value = "none"
    text: str = ""
    becomes: tuple[str, ...] = ()
    values: frozenset[str] = _SWITCH


class RefusedOptionError(SettingsError):
    """An option that cannot be fulfilled; the message names it and what to use instead."""


@dataclass(frozen=True, slots=True)
class Translation:
    """A command line in our words, and what its author should know about it."""

    args: list[str]
    notes: list[str]


def _renamed(names: str, *becomes: str, value: Value = "one") -> Option:
    return Option(tuple(names.split()), "renamed", value, becomes=becomes)


def _needless(text: str, *names: str, value: Value = "none") -> tuple[Option, ...]:
    return tuple(Option(tuple(name.split()), "needless", value, text) for name in names)


def _refused(text: str, *names: str) -> tuple[Option, ...]:
    return tuple(Option(tuple(name.split()), "refused", text=text) for name in names)


def _bare(name: str) -> Option:
    """A switch there, one of three values here: alone it asks for what is the default."""
    return Option(
        (name,),
        "needless",
        "maybe",
        "it is on already; key, public or off say who may read it",
        values=ACCESS,
    )


_NO_GPU = "everything is computed on the CPU"
_RENAMED = (
    _renamed("-m --model", MODEL),
    _renamed("-hf -hfr --hf-repo", MODEL, "hf:{}"),
    _renamed("-hft", "--hf-token", "{}"),
    _renamed("--predict", "--n-predict", "{}"),
    _renamed("-ctxcp --swa-checkpoints", "--ctx-checkpoints", "{}"),
    _renamed("-to --timeout", "--request-timeout", "{}"),
    _renamed("--no-slots", "--slots", "off", value="none"),
    _renamed("--ui", "--webui", value="none"),
    _renamed("--no-ui", "--no-webui", value="none"),
    _renamed("--log-jsonl", "--log-format", "json", value="none"),
    _renamed("--log-disable", "--log-level", "error", value="none"),
    _renamed("-v --verbose --log-verbose", "--log-level", "debug", value="none"),
)
_NEEDLESS = (
    _bare("--metrics"),
    _bare("--slots"),
    _bare("--props"),
    *_needless(
        _NO_GPU,
        *("-ngl --gpu-layers --n-gpu-layers", "-sm --split-mode", "-ts --tensor-split"),
        *("-mg --main-gpu", "-dev --device", "-ot --override-tensor", "-ncmoe --n-cpu-moe"),
        *("-ncffn --n-cpu-ffn", "--moe-cache-mib", "-fitt --fit-target", "-fitc --fit-ctx"),
        value="one",
    ),
    *_needless(
        _NO_GPU,
        *("-cmoe --cpu-moe", "-kvo --kv-offload -nkvo --no-kv-offload", "--no-host"),
        *("--op-offload --no-op-offload", "--no-mmproj --no-mmproj-auto"),
    ),
    *_needless(
        "memory is decided and checked before the model is loaded", "-fit --fit", value="maybe"
    ),
    *_needless("attention always is computed in pieces", "-fa --flash-attn", value="maybe"),
    *_needless("chat templates are always rendered by Jinja", "--jinja"),
    *_needless("requests always share forwards", "-cb --cont-batching"),
    *_needless("weights are repacked into memory of their own", "--mlock", "--no-mmap", "--mmap"),
    *_needless(
        "weights are repacked into memory of their own; --panel-cache reads them at the next start",
        *("-lm --load-mode", "-lzm --lazy-mode"),
        value="one",
    ),
    *_needless("weights are always repacked", "--repack", "-nr --no-repack"),
    *_needless("slots always share one pool of cells (--kv-size)", "-kvu --kv-unified"),
    *_needless("prefixes are kept unless a request says cache_prompt false", "--cache-prompt"),
    *_needless(
        "prefixes are kept in what slots leave and in --prefix-cache-bytes, whoever had them",
        *("-cram --cache-ram", "--cache-reuse", "-cms --checkpoint-min-step"),
        value="one",
    ),
    *_needless(
        "prefixes are kept in what slots leave and in --prefix-cache-bytes",
        *("--cache-idle-slots", "--no-cache-idle-slots"),
    ),
    *_needless("the context is never shifted", "--no-context-shift"),
    *_needless("kernels are compiled and run before the server is ready", "--warmup --no-warmup"),
    *_needless("every tensor is checked", "--check-tensors"),
    *_needless("windows of attention cost what they need", "--swa-full"),
    *_needless("one team of threads computes everything (--threads)", "-tb --threads-batch",
               "--threads-http", value="one"),
    *_needless("threads that wait give their CPU away", "--poll", "--poll-batch", value="one"),
    *_needless("/metrics tells the times", "--perf --no-perf"),
    *_needless("it concerns prompts on a command line", "-e --escape --no-escape"),
    *_needless("--log-format decides", "--log-colors", value="maybe"),
    *_needless(
        "--log-format decides", "--log-prefix --no-log-prefix",
        "--log-timestamps --no-log-timestamps",
    ),
    *_needless("--log-level decides", "-lv --verbosity --log-verbosity", value="one"),
)  # fmt: skip
_REFUSED = (
    *_refused("requests always share forwards", "-nocb --no-cont-batching"),
    *_refused("chat templates are always rendered by Jinja", "--no-jinja"),
    *_refused("use --chat-template-file", "--chat-template"),
    *_refused("send chat_template_kwargs with the requests", "--chat-template-kwargs"),
    *_refused("slots always share one pool of cells (--kv-size)", "-no-kvu --no-kv-unified"),
    *_refused("--ctx-size is the longest sequence of any slot", "--kv-unified-per-slot"),
    *_refused("send cache_prompt: false with the requests", "--no-cache-prompt"),
    *_refused("choose --ctx-size large enough", "--context-shift", "--keep"),
    *_refused("fetch the file and name it, or name hf:USER/REPO:QUANT", "-mu --model-url",
              "-dr --docker-repo", "-hff --hf-file", "--offline"),
    *_refused("--spec-type says where drafts come from: the model's own block, or the text",
              "-md --model-draft --spec-draft-model", "-lcs --lookup-cache-static",
              "-lcd --lookup-cache-dynamic"),
    *_refused("adapters are not supported", "--lora", "--lora-scaled", "--control-vector",
              "--control-vector-scaled", "--control-vector-layer-range"),
    *_refused("text is all that is understood", "-mm --mmproj", "-mmu --mmproj-url",
              "--mmproj-auto", "--image-min-tokens", "--image-max-tokens", "--media-path"),
    *_refused("a request says it: embd_normalize", "--embd-normalize"),
    *_refused("what the file says counts", "--rope-scaling", "--rope-scale", "--rope-freq-base",
              "--rope-freq-scale", "--yarn-orig-ctx", "--yarn-ext-factor", "--yarn-attn-factor",
              "--yarn-beta-slow", "--yarn-beta-fast", "--override-kv"),
    *_refused("start the server with taskset, or use --pin-threads", "-C --cpu-mask",
              "-Cr --cpu-range", "--cpu-strict", "-Cb --cpu-mask-batch", "-Crb --cpu-range-batch",
              "--cpu-strict-batch"),
    *_refused("start the server with nice or chrt", "--prio", "--prio-batch"),
    *_refused("every computation is on this machine", "--rpc"),
    *_refused("put a proxy before the server (deploy/)", "--ssl-key-file", "--ssl-cert-file",
              "--api-prefix", "--path", "--reuse-port"),
    *_refused("what pages may do is fixed; --cors-origins says which", "--cors-methods",
              "--cors-headers", "--cors-credentials", "--no-cors-credentials"),
    *_refused("the page keeps its settings in the browser", "--ui-config --webui-config",
              "--ui-config-file --webui-config-file", "--ui-mcp-proxy --webui-mcp-proxy"),
    *_refused("the server runs no tools: clients do", "--tools", "--tools-runtime",
              "--mcp-servers-config", "--mcp-servers-json", "-ag --agent"),
    *_refused("send it with the requests", "--grammar", "--grammar-file", "-j --json-schema",
              "-jf --json-schema-file", "-l --logit-bias", "--ignore-eos", "-r --reverse-prompt",
              "--reasoning-format", "--reasoning-budget", "-rea --reasoning", "--reasoning-effort",
              "-sp --special"),
    *_refused("standard error is where the log goes: redirect it", "--log-file"),
    *_refused("slotmux inspect tells of files", "--list-devices", "-cl --cache-list"),
)  # fmt: skip
OPTIONS: Mapping[str, Option] = {
    name: option for option in (*_RENAMED, *_NEEDLESS, *_REFUSED) for name in option.names
}

# llama-server's variables for what we have under another.
VARIABLES: Mapping[str, str] = {
    "LLAMA_ARG_MODEL": "model", "LLAMA_ARG_HF_REPO": "model", "LLAMA_ARG_CTX_SIZE": "ctx_size",
    "LLAMA_ARG_N_PARALLEL": "parallel", "LLAMA_ARG_THREADS": "threads",
    "LLAMA_ARG_BATCH": "batch_size", "LLAMA_ARG_UBATCH": "ubatch_size",
    "LLAMA_ARG_N_PREDICT": "n_predict", "LLAMA_ARG_CACHE_TYPE_K": "cache_type_k",
    "LLAMA_ARG_CACHE_TYPE_V": "cache_type_v", "LLAMA_ARG_ALIAS": "alias",
    "LLAMA_ARG_HOST": "host", "LLAMA_ARG_PORT": "port", "LLAMA_API_KEY": "api_key",
    "LLAMA_ARG_API_KEY_FILE": "api_key_file", "LLAMA_ARG_CORS_ORIGINS": "cors_origins",
    "LLAMA_ARG_TIMEOUT": "request_timeout", "LLAMA_ARG_ENDPOINT_METRICS": "metrics",
    "LLAMA_ARG_ENDPOINT_SLOTS": "slots", "LLAMA_ARG_ENDPOINT_PROPS": "props",
    "LLAMA_ARG_CTX_CHECKPOINTS": "ctx_checkpoints",
    "LLAMA_ARG_CHAT_TEMPLATE_FILE": "chat_template_file",
    "LLAMA_ARG_SSE_PING_INTERVAL": "sse_ping_interval",
    "LLAMA_ARG_SLOT_SAVE_PATH": "slot_save_path", "LLAMA_ARG_UI": "webui",
    "LLAMA_ARG_WEBUI": "webui",
    "LLAMA_ARG_MODELS_DIR": "models_dir", "LLAMA_ARG_MODELS_PRESET": "models_config",
    "LLAMA_ARG_MODELS_MAX": "models_max", "LLAMA_ARG_MODELS_AUTOLOAD": "models_autoload",
}  # fmt: skip
CTX_SIZE_NOTE = (
    "--ctx-size is the longest sequence of any slot here; llama-server divides it among the slots."
    " The cells of all slots are --kv-size"
)


def translate(args: list[str], known: Container[str]) -> Translation:
    """``args`` of `serve` with llama-server's options in our words. ``known``: our own names, which
    are left alone but where a value is missing that ours need. Raises RefusedOptionError."""
    out: list[str] = []
    models: list[str] = []
    notes: list[str] = []
    rest = iter(args)
    pending: list[str] = []
    while (arg := pending.pop() if pending else next(rest, None)) is not None:
        if arg == "--":
            out += [arg, *rest]
            break
        name, has_value, value = arg.partition("=")
        option = OPTIONS.get(name)
        if option is None or (name in known and option.value != "maybe"):
            out.append(arg)
            continue
        if option.rule == "refused":
            raise RefusedOptionError(f"{name}: {option.text}")
        if not has_value and option.value != "none":
            value = _next_value(option, rest, pending)
        if name in known and value:
            out += [name, value]
        elif option.rule == "needless":
            notes.append(f"{name} changes nothing: {option.text}")
        else:
            _append(option, name, value, out, models)
    if (notes or models) and any(arg.split("=")[0] in ("-c", "--ctx-size") for arg in args):
        notes.append(CTX_SIZE_NOTE)
    return Translation([*out, *models], notes)


def variable_notes(names: list[str]) -> Iterator[str]:
    """A line for each of llama-server's variables among ``names``."""
    for name in names:
        if not name.startswith("LLAMA_ARG_") and name not in VARIABLES:
            continue  # another program's: LlamaIndex has some
        field = VARIABLES.get(name)
        instead = f": {env_name(flag_name(field))} is" if field else ""
        yield f"{name} is set, but not read here{instead}"


def _next_value(option: Option, rest: Iterator[str], pending: list[str]) -> str:
    """The argument that belongs to an option; '' if it may and does stand alone."""
    value = next(rest, None)
    if option.value == "one":
        if value is None:
            raise RefusedOptionError(f"{option.names[0]}: needs a value")
        return value
    if value is not None and value not in option.values:
        pending.append(value)
        return ""
    return value or ""


def _append(option: Option, name: str, value: str, out: list[str], models: list[str]) -> None:
    words = option.becomes
    if words[0] == MODEL:
        models.append((words[1] if len(words) > 1 else "{}").replace("{}", value))
        if len(models) > 1:
            raise RefusedOptionError(f"{name}: one model is served")
    else:
        out += [word.replace("{}", value) for word in words]

"""Puts together what a server serves: the model with its memory, tokenizer, template, engine."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from slotmux.runtime.engine.texts.engine import TextEngine
from slotmux.runtime.engine.thread import Engine
from slotmux.runtime.gguf import GGUFFile, open_gguf
from slotmux.runtime.memory.disk.files import Files
from slotmux.runtime.memory.disk.store import Store
from slotmux.runtime.models import family, is_encoder
from slotmux.runtime.speculation.measure import measure_costs
from slotmux.runtime.tokenizer import Tokenizer
from slotmux.server.answers.texts.pairs import pair_form
from slotmux.server.files.names import spec_of
from slotmux.server.grammars.matcher import begin_library_tokenizer
from slotmux.server.loading.identity import model_identity
from slotmux.server.loading.load import load, load_texts
from slotmux.server.loading.locate import locate, model_folders
from slotmux.server.loading.plan import DiskPlan, Plan, make_plan
from slotmux.server.loading.sampling import sampling_defaults
from slotmux.server.process.kv_events_config import parse_kv_events_config
from slotmux.server.process.logs import LOGGER
from slotmux.server.process.state import KvEventsPort, Loaded, ModelInfo
from slotmux.server.settings import Settings, SettingsError, told_as
from slotmux.server.templates.chat_template import ChatTemplate, file_template
from slotmux.server.templates.stored import stored_template
from slotmux.server.tools.style import ChatStyle, style_of

if TYPE_CHECKING:
    from slotmux.runtime.model import Model

log = logging.getLogger(LOGGER)
_ABANDONED_S = 3600.0  # a slot is saved within moments


def check_file(settings: Settings) -> None:
    """Raise at once what is wrong with a local file, so that nobody waits for it behind a port; a
    download comes later. Raises what ``assemble`` would."""
    spec = spec_of(settings.model, model_folders(settings))
    if spec is None or spec == "demo" or spec.startswith("hf:"):
        return
    family(open_gguf(locate(spec, settings)))


def assemble(settings: Settings, permit: Callable[[Plan], None] | None = None) -> Loaded:
    """Fetch, check and load the model of ``settings``; the engine is made but not started.

    Memory is decided before anything is loaded: CommandError when it would not fit. ``permit``
    returns when there is room for what is planned.
    """
    events = _events(settings)
    file = open_gguf(locate(settings.model, settings))
    plan = make_plan(settings, file)
    _print_budget(plan)
    if permit is not None:
        permit(plan)
    plan.check()
    tokenizer = Tokenizer.from_metadata(file.metadata)
    template = _template(settings, file, tokenizer)
    sampling = sampling_defaults(settings, file.metadata)
    for warning in file.metadata.warnings:
        log.warning(warning)
    if is_encoder(file):
        return _assemble_encoder(settings, file, plan, tokenizer)
    # Whatever waits for the first text or grammar would stop for it; now nobody does.
    prepared = threading.Thread(target=tokenizer.prepare, name="slotmux-tokenizer")
    prepared.start()
    vocabulary = begin_library_tokenizer(tokenizer)
    model = load(plan)
    prepared.join()
    _check_vocabulary(file, tokenizer, model.n_vocab)
    identity = _identity(settings, file, plan, model)
    spec = plan.spec
    costs = measure_costs(model, spec.n_max) if spec.types else None
    return Loaded(
        engine=Engine(
            model,
            tokenizer,
            plan.engine,
            costs=costs,
            events=events,
            store=_store(plan.disk, identity),
        ),
        kv_events=events,
        tokenizer=tokenizer,
        template=template,
        info=replace(
            _model_info(settings, file, tokenizer, plan, template.source if template else ""),
            can_generate=not settings.embeddings and not settings.reranking,
            pooling=model.pooling.name.lower(),
            n_vector=model.n_vector,
        ),
        pairs=pair_form(file.metadata, tokenizer),
        spec=spec,
        n_max_token_bytes=tokenizer.max_token_bytes,
        style=ChatStyle()
        if template is None
        else style_of(template.source, template.sample, tokenizer),
        keeps_states=model.rows.n_rows > 0,
        identity=identity,
        n_compiled=lambda: model.n_compiled,
        sampling=sampling,
        vocabulary=vocabulary,
        budget=plan.budget,
    )


def _assemble_encoder(
    settings: Settings, file: GGUFFile, plan: Plan, tokenizer: Tokenizer
) -> Loaded:
    """Of a model that gives vectors: no template, no grammars, no prefix cache."""
    encoder = load_texts(plan)
    _check_vocabulary(file, tokenizer, encoder.n_vocab)
    info = replace(
        _model_info(settings, file, tokenizer, plan, ""),
        n_slots=0,
        can_generate=False,
        pooling=encoder.pooling.name.lower(),
        n_vector=encoder.n_out,
    )
    return Loaded(
        engine=TextEngine(encoder, settings.max_queue, settings.queue_timeout),
        tokenizer=tokenizer,
        template=None,
        info=info,
        n_max_token_bytes=tokenizer.max_token_bytes,
        n_compiled=lambda: encoder.n_compiled,
        pairs=pair_form(file.metadata, tokenizer),
        budget=plan.budget,
    )


def _events(settings: Settings) -> KvEventsPort | None:
    """Where events of the prefix cache go. Raises SettingsError where that cannot be."""
    if not settings.kv_events_config:
        return None
    config, name = parse_kv_events_config(settings.kv_events_config), told_as("kv_events_config")
    if not config.is_on:
        return None
    try:
        from slotmux.server.process.kv_events import Publisher

        return Publisher(config)
    except ImportError:
        raise SettingsError(
            f"{name}: needs ZeroMQ and msgspec: pip install 'slotmux[events]'"
        ) from None
    except OSError as error:
        raise SettingsError(f"{name}: {error.strerror}") from error


def _identity(settings: Settings, file: GGUFFile, plan: Plan, model: Model) -> str:
    """What kept memory is good for; "" where none is kept."""
    if settings.slot_save_path is None and plan.disk is None:
        return ""
    if settings.slot_save_path is not None:
        Files().remove_parts(settings.slot_save_path, _ABANDONED_S)
    return model_identity(file, plan.model, model, settings.caches / "contents")


def _store(disk: DiskPlan | None, identity: str) -> Store | None:
    return Store(disk.directory, disk.n_bytes, identity) if disk is not None else None


def _template(settings: Settings, file: GGUFFile, tokenizer: Tokenizer) -> ChatTemplate | None:
    """The operator's chat template, else the file's, else ChatML."""
    path = settings.chat_template_file
    if path is None:
        if stored_template(file.metadata) is None:
            log.info("the file has no chat template: ChatML is used (--chat-template-file)")
        return file_template(file.metadata, tokenizer)
    try:
        return ChatTemplate.for_tokenizer(path.read_text("utf-8"), tokenizer)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{told_as('chat_template_file')}: {error}") from error


def _model_info(
    settings: Settings, file: GGUFFile, tokenizer: Tokenizer, plan: Plan, template: str
) -> ModelInfo:
    names = settings.alias or (_model_name(file.paths[0]),)
    bos, eos = (
        "" if token_id is None else tokenizer.token_text(token_id)
        for token_id in (tokenizer.bos_id, tokenizer.eos_id)
    )
    metadata, arch = file.metadata, file.architecture
    return ModelInfo(
        name=names[0],
        aliases=tuple(names[1:]),
        n_ctx=plan.engine.n_ctx,
        n_ctx_train=metadata.get_u32(f"{arch}.context_length"),
        n_slots=plan.engine.n_slots,
        architecture=arch,
        file_name=file.paths[0].name,
        n_params=file.n_params,
        n_bytes=file.n_bytes,
        n_embd=metadata.get_u32(f"{arch}.embedding_length", 0),
        vocab_type=metadata.get_str("tokenizer.ggml.model", ""),
        bos_text=bos,
        eos_text=eos,
        chat_template=template,
    )


def _model_name(path: Path) -> str:
    return path.name.removesuffix(".gguf")


def _print_budget(plan: Plan) -> None:
    """What the server will take, before it takes it."""
    line = f"{plan.path.name}: {plan.budget.describe()}"
    Console(file=sys.stderr).print(line, highlight=False, soft_wrap=True)


def _check_vocabulary(file: GGUFFile, tokenizer: Tokenizer, n_rows: int) -> None:
    """A token without a row in the embedding would be read from somebody else's memory."""
    if tokenizer.n_vocab > n_rows:
        reason = f"{tokenizer.n_vocab} tokens, but the embedding has {n_rows} rows"
        file.metadata.refuse("tokenizer.ggml.tokens", reason)

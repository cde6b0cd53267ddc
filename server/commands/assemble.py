"""Puts together what a server serves: the model with its memory, tokenizer, template, engine."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from rich.console import Console

from slotmux.runtime.engine.config import MTP, SpecConfig
from slotmux.runtime.engine.thread import Engine, EngineConfig
from slotmux.runtime.gguf import GGUFFile, open_gguf
from slotmux.runtime.models import family
from slotmux.runtime.speculation.measure import measure_costs
from slotmux.runtime.tokenizer import Tokenizer
from slotmux.server.commands.cores import n_usable_cores
from slotmux.server.commands.inspect import n_params
from slotmux.server.commands.loading import load, locate
from slotmux.server.commands.memory import (
    Checkpoints,
    MemoryNeeded,
    check_fits,
    memory_limit,
    memory_needed,
)
from slotmux.server.commands.speculation import spec_config, without_mtp
from slotmux.server.process.logs import LOGGER
from slotmux.server.process.state import Loaded, ModelInfo
from slotmux.server.settings import Settings, SettingsError, told_as
from slotmux.server.templates.chat_template import ChatTemplate, file_template
from slotmux.server.templates.stored import stored_template

log = logging.getLogger(LOGGER)


def check_file(settings: Settings) -> None:
    """Raise at once what is wrong with a local file, so that nobody waits for it behind a port; a
    download comes later. Raises what ``assemble`` would."""
    spec = settings.model
    if spec is None or spec == "demo" or spec.startswith("hf:"):
        return
    family(open_gguf(locate(spec, settings)))


def assemble(settings: Settings) -> Loaded:
    """Fetch, check and load the model of ``settings``; the engine is made but not started.

    Memory is decided before anything is loaded: CommandError when it would not fit.
    """
    path = locate(settings.model, settings)
    file = open_gguf(path)
    spec = spec_config(settings, file)
    needed = _memory_needed(settings, file, spec)
    if MTP in spec.types and not needed.sizes.has_drafts:
        spec = without_mtp(spec)
        needed = _memory_needed(settings, file, spec)
    check_fits(needed, settings.mem_limit or memory_limit())
    _print_budget(path, needed)
    tokenizer = Tokenizer.from_metadata(file.metadata)
    template = _template(settings, file, tokenizer)
    for warning in file.metadata.warnings:
        log.warning(warning)
    model = load(
        path,
        settings,
        n_threads=settings.threads or n_usable_cores(),
        n_ctx=needed.n_cells,
        n_slots=settings.parallel,
        n_ubatch=settings.n_ubatch,
        cache_type_k=settings.cache_type_k,
        cache_type_v=settings.cache_type_v,
        isa=settings.isa,
        pin_threads=settings.pin_threads,
        n_checkpoints=needed.n_checkpoints,
        max_drafts=spec.n_max,
        use_mtp=MTP in spec.types,
        keep_panels=settings.panel_cache,
    )
    _check_vocabulary(file, tokenizer, model.n_vocab)
    config = EngineConfig(
        n_slots=settings.parallel,
        n_ctx=needed.n_ctx,
        max_queue=settings.max_queue,
        queue_timeout_s=settings.queue_timeout,
        poison_freed=settings.poison_freed,
        n_prompt_beside=settings.prompt_tokens_beside,
        max_step_s=settings.max_step_ms / 1000,
        spec=spec,
    )
    costs = measure_costs(model, spec.n_max) if spec.types else None
    return Loaded(
        engine=Engine(model, tokenizer, config, costs=costs),
        tokenizer=tokenizer,
        template=template,
        info=_model_info(settings, file, tokenizer, needed, template.source if template else ""),
        spec=spec,
        n_max_token_bytes=tokenizer.max_token_bytes,
        keeps_states=model.rows.n_rows > 0,
        n_compiled=lambda: model.n_compiled,
    )


def _memory_needed(settings: Settings, file: GGUFFile, spec: SpecConfig) -> MemoryNeeded:
    return memory_needed(
        file,
        settings.parallel,
        settings.ctx_size,
        settings.kv_size,
        settings.cache_type_k,
        settings.cache_type_v,
        n_ubatch=settings.n_ubatch,
        isa=settings.isa,
        checkpoints=Checkpoints(settings.ctx_checkpoints, settings.checkpoint_memory),
        spec=spec,
    )


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
    settings: Settings, file: GGUFFile, tokenizer: Tokenizer, needed: MemoryNeeded, template: str
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
        n_ctx=needed.n_ctx,
        n_ctx_train=metadata.get_u32(f"{arch}.context_length"),
        n_slots=settings.parallel,
        architecture=arch,
        file_name=file.paths[0].name,
        n_params=n_params(file),
        n_bytes=file.n_bytes,
        n_embd=metadata.get_u32(f"{arch}.embedding_length", 0),
        vocab_type=metadata.get_str("tokenizer.ggml.model", ""),
        bos_text=bos,
        eos_text=eos,
        chat_template=template,
    )


def _model_name(path: Path) -> str:
    return path.name.removesuffix(".gguf")


def _print_budget(path: Path, needed: MemoryNeeded) -> None:
    """What the server will take, before it takes it."""
    Console(file=sys.stderr).print(
        f"{path.name}: {needed.describe()}", highlight=False, soft_wrap=True
    )


def _check_vocabulary(file: GGUFFile, tokenizer: Tokenizer, n_rows: int) -> None:
    """A token without a row in the embedding would be read from somebody else's memory."""
    if tokenizer.n_vocab > n_rows:
        reason = f"{tokenizer.n_vocab} tokens, but the embedding has {n_rows} rows"
        file.metadata.refuse("tokenizer.ggml.tokens", reason)

"""Puts together what a server serves: the model with its memory, tokenizer, template, engine."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from slotmux.runtime.engine.thread import Engine
from slotmux.runtime.gguf import GGUFFile, open_gguf
from slotmux.runtime.models import family
from slotmux.runtime.speculation.measure import measure_costs
from slotmux.runtime.tokenizer import Tokenizer
from slotmux.server.loading.identity import model_identity
from slotmux.server.loading.load import load
from slotmux.server.loading.locate import locate
from slotmux.server.loading.plan import Plan, make_plan
from slotmux.server.loading.sampling import sampling_defaults
from slotmux.server.process.logs import LOGGER
from slotmux.server.process.state import Loaded, ModelInfo
from slotmux.server.settings import Settings, SettingsError, told_as
from slotmux.server.templates.chat_template import ChatTemplate, file_template
from slotmux.server.templates.stored import stored_template
from slotmux.server.tools.style import ChatStyle, style_of

log = logging.getLogger(LOGGER)


def check_file(settings: Settings) -> None:
    """Raise at once what is wrong with a local file, so that nobody waits for it behind a port; a
    download comes later. Raises what ``assemble`` would."""
    spec = settings.model
    if spec is None or spec == "demo" or spec.startswith("hf:"):
        return
    family(open_gguf(locate(spec, settings)))


def assemble(settings: Settings, permit: Callable[[Plan], None] | None = None) -> Loaded:
    """Fetch, check and load the model of ``settings``; the engine is made but not started.

    Memory is decided before anything is loaded: CommandError when it would not fit. ``permit``
    returns when there is room for what is planned.
    """
    file = open_gguf(locate(settings.model, settings))
    plan = make_plan(settings, file)
    _print_budget(plan)
    if permit is not None:
        permit(plan)
    tokenizer = Tokenizer.from_metadata(file.metadata)
    template = _template(settings, file, tokenizer)
    sampling = sampling_defaults(settings, file.metadata)
    for warning in file.metadata.warnings:
        log.warning(warning)
    model = load(plan)
    _check_vocabulary(file, tokenizer, model.n_vocab)
    spec = plan.spec
    costs = measure_costs(model, spec.n_max) if spec.types else None
    return Loaded(
        engine=Engine(model, tokenizer, plan.engine, costs=costs),
        tokenizer=tokenizer,
        template=template,
        info=_model_info(settings, file, tokenizer, plan, template.source if template else ""),
        spec=spec,
        n_max_token_bytes=tokenizer.max_token_bytes,
        style=ChatStyle()
        if template is None
        else style_of(template.source, template.sample, tokenizer),
        keeps_states=model.rows.n_rows > 0,
        identity=model_identity(file, plan.model) if settings.slot_save_path else "",
        n_compiled=lambda: model.n_compiled,
        sampling=sampling,
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

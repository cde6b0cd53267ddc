"""The prompt of /infill: what is around a gap, as much of it as the context holds."""

from __future__ import annotations

from functools import partial

from slotmux.runtime.tokenizer import FimIds
from slotmux.server.answers.fim import ExtraFile, can_fill, infill_prompt
from slotmux.server.answers.prepare import check_length, check_text_size
from slotmux.server.dialects.llama.prompts import Part, encode_text
from slotmux.server.dialects.llama.schema import InfillOptions
from slotmux.server.http.errors import not_supported
from slotmux.server.process.state import Loaded

_ROOM = 256  # tokens kept free for an answer that names no length
_N_NEAR = 2048  # around the gap, as in llama-server, if the context is larger


def check_model_fills(fim: FimIds) -> None:
    """Raises ApiError 501 for a model without the tokens that frame a gap."""
    if not can_fill(fim):
        raise not_supported("Infill is not supported by this model: it has no tokens for it.")


def infill_ids(
    loaded: Loaded, options: InfillOptions, prompt: list[Part], n_predict: int
) -> list[int]:
    """Token ids. The nearest text is kept when all does not fit, and of other files the last.
    Raises ApiError 400."""
    n_ctx = loaded.info.n_ctx
    texts = {"input_prefix": options.input_prefix, "input_suffix": options.input_suffix}
    for name, text in texts.items():
        check_text_size(loaded, name, len(text.encode()))
    given: list[int] = []
    for part in prompt:
        if isinstance(part, int):
            given.append(part)
        else:
            given += encode_text(loaded, part, n_ctx, "prompt")
    room = n_ctx - min(_ROOM if n_predict < 0 else n_predict, n_ctx // 2)
    make = partial(
        infill_prompt,
        loaded.tokenizer,
        options.input_prefix,
        options.input_suffix,
        given,
        n_near=min(_N_NEAR, room * 3 // 4),
    )
    ids = make((), n_extra=0)
    check_length(loaded.info, len(ids), "prompt")
    if options.input_extra and len(ids) < room:
        extra = [ExtraFile(e.text, e.filename or "tmp") for e in options.input_extra]
        ids = make(extra, n_extra=room - len(ids))
    return ids

"""A query and a document as one text, as a model that ranks reads them."""

from __future__ import annotations

from dataclasses import dataclass

from slotmux.runtime.gguf import Metadata
from slotmux.runtime.tokenizer import PromptTooLongError, Tokenizer
from slotmux.server.http.errors import invalid
from slotmux.server.interfaces import TokenizerPort

TEMPLATE_KEY = "tokenizer.chat_template.rerank"
ADD_SEP_KEY = "tokenizer.ggml.add_sep_token"
SEP_KEY = "tokenizer.ggml.seperator_token_id"  # spelled so in files


@dataclass(frozen=True, slots=True)
class TextIds:
    """A text's tokens; ``n_first``: how many are of the first of two parts (-1: all)."""

    ids: list[int]
    n_first: int = -1


@dataclass(frozen=True, slots=True)
class PairForm:
    """``template`` with {query} and {document}; "": BOS, query, ``between``, document, ``after``,
    where the first part ends behind ``between``."""

    template: str = ""
    before: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    def ids(
        self, tokenizer: TokenizerPort, query: str, document: str, n_ctx: int, param: str
    ) -> TextIds:
        """Tokens of a pair. Raises ApiError 400, naming ``param``, for one that is too long."""
        try:
            found = self._encode(tokenizer, query, document, n_ctx)
        except PromptTooLongError:
            found = None
        if found is None or len(found.ids) > n_ctx:
            message = f"The model reads {n_ctx} tokens of a query and a document together."
            raise invalid(param, message, "context_length_exceeded")
        return found

    def _encode(self, tokenizer: TokenizerPort, query: str, document: str, most: int) -> TextIds:
        if self.template:
            text = self.template.replace("{query}", query).replace("{document}", document)
            return TextIds(tokenizer.encode(text, add_special=False, parse_special=True))
        one = tokenizer.encode(query, add_special=False, max_tokens=most)
        other = tokenizer.encode(document, add_special=False, max_tokens=most)
        first = [*self.before, *one, *self.between]
        return TextIds([*first, *other, *self.after], len(first))


def pair_form(metadata: Metadata, tokenizer: Tokenizer) -> PairForm:
    """What a file says, as llama.cpp reads it."""
    template = metadata.tolerant(TEMPLATE_KEY, "", metadata.get_str)
    if "{query}" in template and "{document}" in template:
        return PairForm(template)
    bos = (tokenizer.bos_id,) if tokenizer.add_bos and tokenizer.bos_id is not None else ()
    eos = (tokenizer.eos_id,) if tokenizer.add_eos and tokenizer.eos_id is not None else ()
    has_sep = metadata.tolerant(ADD_SEP_KEY, False, metadata.get_bool)
    sep_id = metadata.get_u32(SEP_KEY, None, high=tokenizer.n_vocab - 1) if has_sep else None
    sep = () if sep_id is None else (sep_id,)
    return PairForm("", bos, (*eos, *sep), eos)

"""A query and a document as one text, as a model that ranks reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from slotmux.runtime.gguf import Metadata
from slotmux.runtime.tokenizer import (
    PromptTooLongError,
    Rendered,
    SpecialGuard,
    Tokenizer,
    choose_mark,
)
from slotmux.server.http.errors import invalid
from slotmux.server.interfaces import TokenizerPort

TEMPLATE_KEY = "tokenizer.chat_template.rerank"
_PLACES = re.compile(r"\{(?:query|document)\}")


@dataclass(frozen=True, slots=True)
class TextIds:
    """A text's tokens; ``n_first``: how many are of the first of two parts (-1: all)."""

    ids: list[int]
    n_first: int = -1


@dataclass(frozen=True, slots=True)
class PairForm:
    """``template`` with {query} and {document}, and ``guard`` of what neither may write into it; or
    ``before``, query, ``between``, document, ``after``, where the first part ends behind
    ``between``."""

    template: str = ""
    guard: SpecialGuard | None = None
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
        if self.guard is not None:
            rendered = self._rendered(self.guard, query, document)
            return TextIds(tokenizer.encode_rendered(rendered, max_tokens=most))
        one = tokenizer.encode(query, add_special=False, max_tokens=most)
        other = tokenizer.encode(document, add_special=False, max_tokens=most)
        first = [*self.before, *one, *self.between]
        return TextIds([*first, *other, *self.after], len(first))

    def _rendered(self, guard: SpecialGuard, query: str, document: str) -> Rendered:
        """Special tokens stand where the template has them, and nowhere in the two texts."""
        mark = choose_mark((self.template, query, document))
        if mark is None:
            message = "The query and the document hold every noncharacter from U+FDD0 to U+FDEF."
            raise invalid("query", message)
        texts = {"{query}": guard.mark(query, mark), "{document}": guard.mark(document, mark)}
        marked = _PLACES.sub(lambda found: texts[found[0]], self.template)
        return Rendered(marked, mark)


def pair_form(metadata: Metadata, tokenizer: Tokenizer) -> PairForm:
    """What a file says, as llama.cpp reads it."""
    template = metadata.tolerant(TEMPLATE_KEY, "", metadata.get_str)
    if "{query}" in template and "{document}" in template:
        return PairForm(template, tokenizer.guard)
    bos = (tokenizer.bos_id,) if tokenizer.add_bos and tokenizer.bos_id is not None else ()
    eos = (tokenizer.eos_id,) if tokenizer.add_eos and tokenizer.eos_id is not None else ()
    sep = (tokenizer.sep_id,) if tokenizer.add_sep and tokenizer.sep_id is not None else ()
    return PairForm(before=bos, between=(*eos, *sep), after=eos)

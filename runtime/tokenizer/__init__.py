"""Tokenizers built from a model file's own vocabulary."""

from slotmux.runtime.tokenizer.attributes import FimIds
from slotmux.runtime.tokenizer.detokenizer import Detokenizer
from slotmux.runtime.tokenizer.guard import MARKS, Rendered, SpecialGuard, choose_mark
from slotmux.runtime.tokenizer.tokenizer import PromptTooLongError, Tokenizer

__all__ = [
    "MARKS",
    "Detokenizer",
    "FimIds",
    "PromptTooLongError",
    "Rendered",
    "SpecialGuard",
    "Tokenizer",
    "choose_mark",
]

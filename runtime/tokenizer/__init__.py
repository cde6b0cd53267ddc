"""Tokenizers built from a model file's own vocabulary."""

from runtime.tokenizer.detokenizer import Detokenizer
from runtime.tokenizer.guard import MARKS, Rendered, SpecialGuard, choose_mark
from runtime.tokenizer.tokenizer import PromptTooLongError, Tokenizer

__all__ = [
    "MARKS",
    "Detokenizer",
    "PromptTooLongError",
    "Rendered",
    "SpecialGuard",
    "Tokenizer",
    "choose_mark",
]

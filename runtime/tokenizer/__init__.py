"""Tokenizers built from a model file's own vocabulary."""

from runtime.tokenizer.detokenizer import Detokenizer
from runtime.tokenizer.guard import Rendered, SpecialGuard, choose_mark
from runtime.tokenizer.tokenizer import PromptTooLongError, Tokenizer

__all__ = [
    "Detokenizer",
    "PromptTooLongError",
    "Rendered",
    "SpecialGuard",
    "Tokenizer",
    "choose_mark",
]

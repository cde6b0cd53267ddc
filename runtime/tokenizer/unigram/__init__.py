"""Vocabularies whose texts are cut where the sum of the tokens' scores is highest."""

from slotmux.runtime.tokenizer.unigram.plamo import PlamoEncoder
from slotmux.runtime.tokenizer.unigram.sentencepiece import UnigramEncoder

__all__ = ["PlamoEncoder", "UnigramEncoder"]

"""Pre-tokenizers by the names that GGUF files give them: how a text is cut into words before
byte-pair merging. Patterns are Oniguruma's (the `tokenizers` library) and follow llama.cpp."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from slotmux.runtime.tokenizer import chunks

_CONTRACTION = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_SPACE_TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTION}|{_LETTERS}|\p{{N}}{{1,3}}|{_SYMBOLS}|{_SPACE_TAIL}"
_QWEN2 = rf"{_CONTRACTION}|{_LETTERS}|\p{{N}}|{_SYMBOLS}|{_SPACE_TAIL}"
_QWEN35 = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACE_TAIL}"
)
_JAIS2 = (
    rf"{_CONTRACTION}|{_LETTERS}|\p{{N}}{{1,3}}|{_SYMBOLS}|\s*[\r\n]+"
    r"|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)"
    r"|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}"
)
_BAILING = (
    r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])"
    rf"|{_LETTERS}|\p{{N}}|{_SYMBOLS}|\s*[\r\n]|\s+(?!\S)|\s+"
)
_SEED_CODER = rf"{_CONTRACTION}|{_LETTERS}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACE_TAIL}"
_EXAONE_MOE = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)
# Letters that are not lower-case ASCII, then letters that are not upper-case ASCII.
_UPPER, _LOWER = r"[\p{L}&&[^a-z]]", r"[\p{L}&&[^A-Z]]"
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_CASED_TAIL = rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACE_TAIL}"
_TEKKEN = rf"{_LEAD}{_UPPER}*{_LOWER}+|{_LEAD}{_UPPER}+{_LOWER}*|\p{{N}}|{_CASED_TAIL}"
_GPT4O = (
    rf"{_LEAD}{_UPPER}*{_LOWER}+{_CONTRACTION}?|{_LEAD}{_UPPER}+{_LOWER}*{_CONTRACTION}?"
    rf"|\p{{N}}{{1,3}}|{_CASED_TAIL}"
)
# llama.cpp takes \p{Lu} and the other cases of letters for \p{L}.
_ANY_CASE = rf"{_LEAD}[\p{{L}}\p{{M}}]+{_CONTRACTION}?"
_TINY_AYA = rf"{_ANY_CASE}|\p{{N}}{{1,3}}|{_CASED_TAIL}"
_YOUTU = rf"{_ANY_CASE}|\p{{N}}|{_CASED_TAIL}"
_YOUTU_SCRIPTS = "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+"
_UPPER_MARK, _LOWER_MARK = r"[[\p{L}\p{M}]&&[^a-z]]", r"[[\p{L}\p{M}]&&[^A-Z]]"
_GRANITE_EMBED = (
    rf"{_LEAD}{_UPPER_MARK}*{_LOWER_MARK}+{_CONTRACTION}?"
    rf"|{_LEAD}{_UPPER_MARK}+{_LOWER_MARK}*{_CONTRACTION}?|\p{{N}}{{1,3}}|{_CASED_TAIL}"
)
_UFAKZEKA = rf"{_LETTERS}|\p{{N}}|{_SYMBOLS}|{_SPACE_TAIL}"
# Han by blocks, with their unassigned places; the compatibility forms as escapes, see below.
_HAN = (
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002b73f"
    "\U0002b740-\U0002b81f\U0002b820-\U0002ceaf\U0002ceb0-\U0002ebef\U0002f800-\U0002fa1f"
)
_KIMI = (
    rf"[{_HAN}]+|{_LEAD}[\p{{L}}&&[^{_HAN}]]+{_CONTRACTION}?|\p{{N}}{{1,3}}"
    rf"|{_SYMBOLS}|{_SPACE_TAIL}"
)
# The third range of llama.cpp begins at an unlikely place; Hangul is in it anyway.
_AFMOE_SCRIPTS = (
    "[\u4e00-\u9fff\u3400-\u4dbf\u8c48-\ufaff\u3040-\u30ff\uff65-\uff9f\u2f00-\u2fdf"
    "\u0e40-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af"
    "\u1100-\u11ff]+"
)
_ASCII_PUNCT_WORD = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"
_MARKED_LETTERS = r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
_KANA_HAN = "[一-龥぀-ゟ゠-ヿ]+"
_DEEPSEEK3 = rf"{_ASCII_PUNCT_WORD}|{_MARKED_LETTERS}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACE_TAIL}"
_SPARK = rf"{_ASCII_PUNCT_WORD}|{_MARKED_LETTERS}| ?[\p{{P}}\p{{S}}]+|[\r\n]|\s+(?!\S)|\s+"
# Latin, Greek, Cyrillic, Georgian, Cherokee... as escapes: editors normalise some of them.
_CASED_SCRIPTS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293"
    "\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c"
    "\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5"
    "\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59"
    "\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc"
    "\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107"
    "\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee"
    "\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e"
    "\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"
    "\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
    "\U000118a0-\U000118df\U0001e900-\U0001e943"
)
# The ranges hold Unicode spaces (U+2000, U+3000...), which llama.cpp does not match with them.
_DEEPSEEK_HAN = r"[一-龥ࠀ-一가-퟿&&[^\s]]+"
_DEEPSEEK_PUNCT = r"\s?[!-/:-~！-／：-～‘-‟　-。&&[^\s]]+"
# Numbers in threes counted from their end, what is over first; with the text between two numbers,
# as llama.cpp leaves it. Only the beginning of a number looks for its end.
_NUMBERS_BY_THREES = (
    r"(?:\A|(?<=\p{N}))(?>\P{N}*)"
    r"(?:(?<!\p{N})\p{N}{1,2}(?=(?>(?:\p{N}{3})*)(?!\p{N}))|\p{N}{3})"
)
# The same for ASCII digits, in two steps: a cut behind what is over, then cuts between threes.
_FIRST_THREE = (
    r"(?:(?<![0-9])|(?<=\A[0-9]|[^0-9][0-9])|(?<=\A[0-9]{2}|[^0-9][0-9]{2}))"
    r"(?=(?>(?:[0-9]{3})+)(?![0-9]))"
)
_NEXT_THREES = r"[0-9]{3}(?=[0-9])"
_BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"
_DEFAULT_PUNCT = r"[\p{P}\$\+<=>\^~\|]+"
_FALCON_PUNCT = r"[\p{P}\$\+<=>\^~\|`]+"
# Where whitespace ends a piece. The look-behind keeps a run from being tried at each of its
# characters, which would cost the square of its length.
_TRAILING_SPACE = r"(?<!\s)\s+\z"


class Spelling(Enum):
    """How a vocabulary spells the texts of its tokens."""

    BYTES = "GPT-2's character for each byte"
    LINES = "as they are, with ▁ for a space"
    WORDS = "the same, and each word begins with ▁"
    PLAIN = "as they are"


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """Patterns applied one after the other, each isolating its matches in the pieces so far."""

    patterns: tuple[str, ...]
    ignore_merges: bool = False  # a word that is a token stays whole, whatever the merges say
    add_bos: bool = False  # unless the file says otherwise
    add_sep: bool = False  # between the two texts of a pair, unless the file says otherwise
    spelling: Spelling = Spelling.BYTES
    breaks: re.Pattern[str] = chunks.WORD_BREAK  # where no word goes on
    keeps_newlines: bool = False  # so does a run of line ends that is a token


_GPT2_WORDS = PreTokenizer((_GPT2,))
_DIGITS_GPT2 = PreTokenizer((r"\p{N}", _GPT2))
_LLAMA3_WORDS = PreTokenizer((_LLAMA3,))
_QWEN2_WORDS = PreTokenizer((_QWEN2,))
_GPT4O_WORDS = PreTokenizer((_GPT4O,))
_DEEPSEEK3_WORDS = PreTokenizer((r"\p{N}{1,3}", _KANA_HAN, _DEEPSEEK3))
_BLOOM_WORDS = PreTokenizer((_BLOOM,))
# Merges run over whole lines.
GEMMA4 = PreTokenizer(
    (r"\n+",),
    add_bos=True,
    spelling=Spelling.LINES,
    breaks=chunks.LINE_BREAK,
    keeps_newlines=True,
)

_BY_WORDS: tuple[tuple[PreTokenizer, str], ...] = (
    (
        PreTokenizer((_DEFAULT_PUNCT, _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")),
        "default",
    ),
    (
        PreTokenizer((_LLAMA3,), ignore_merges=True, add_bos=True),
        "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
    ),
    (_LLAMA3_WORDS, "dbrx smaug-bpe chatglm-bpe"),
    (PreTokenizer((_LLAMA3,), ignore_merges=True), "glm4 glm5"),
    (PreTokenizer((_JAIS2,)), "jais-2"),
    (
        PreTokenizer(
            (
                r"[\r\n]",
                rf"\s?[{_CASED_SCRIPTS}]+",
                _DEEPSEEK_PUNCT,
                _TRAILING_SPACE,
                _DEEPSEEK_HAN,
                r"\p{N}+",
            )
        ),
        "deepseek-llm",
    ),
    (
        PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _DEEPSEEK_HAN, r"\p{N}")),
        "deepseek-coder",
    ),
    (_DEEPSEEK3_WORDS, "deepseek-v3 hunyuan-dense joyai-llm hy_v4"),
    (PreTokenizer((_FALCON_PUNCT, _GPT2, r"[0-9][0-9][0-9]")), "falcon"),
    (
        _DIGITS_GPT2,
        "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2",
    ),
    (
        _GPT2_WORDS,
        "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert "
        "mpt olmo jais trillion granite-docling exaone4",
    ),
    (PreTokenizer((_GPT2,), add_sep=True), "jina-v1-en jina-v2-code roberta-bpe"),
    (
        _QWEN2_WORDS,
        "qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 hunyuan solar-open megrez grok-2",
    ),
    (PreTokenizer((_QWEN35,)), "qwen35"),
    (_BLOOM_WORDS, "poro-chat bloom gpt3-finnish"),
    (PreTokenizer((_BLOOM, r"\p{N}")), "viking"),
    (PreTokenizer((_TEKKEN,), ignore_merges=True, add_bos=True), "tekken"),
    (_GPT4O_WORDS, "gpt-4o llama4 kanana2 talkie minimax-m2"),
    (PreTokenizer((_BAILING,)), "bailingmoe bailingmoe2 llada-moe"),
    (PreTokenizer((_SEED_CODER,)), "seed-coder"),
    (PreTokenizer((_EXAONE_MOE,), breaks=chunks.LINE_BREAK), "exaone-moe"),
    (PreTokenizer((r"\p{N}{1,3}", _KANA_HAN, _SPARK, r"\p{N}")), "spark2_5"),
    (PreTokenizer((_YOUTU_SCRIPTS, _YOUTU), ignore_merges=True), "youtu"),
    (PreTokenizer((_NUMBERS_BY_THREES, _TINY_AYA)), "tiny_aya cohere2moe"),
    (PreTokenizer((_NUMBERS_BY_THREES, _AFMOE_SCRIPTS, _DEEPSEEK3)), "afmoe"),
    (PreTokenizer((_GRANITE_EMBED,), ignore_merges=True), "granite-embed-multi-97m"),
    (PreTokenizer((_KIMI,)), "kimi-k2"),
    (PreTokenizer((_UFAKZEKA,)), "ufakzeka"),
    (PreTokenizer((r"\n+", _QWEN2)), "laguna"),
    (
        PreTokenizer(
            (
                "<sentinel:[0-9]+>",
                "IMGIMG[A-I]{1,4}Z",
                r"[\t\n]|    |  ",
                r"\p{N}",
                r"[\p{P}!-/:-@\[-`{-~]",
                _GPT2,
            ),
            add_bos=True,
        ),
        "chameleon",
    ),
    (
        PreTokenizer((r"\p{N}+", _FIRST_THREE, _NEXT_THREES), breaks=chunks.NUMBER_BREAK),
        "superbpe",
    ),
    (GEMMA4, "gemma4 granite-embed-multi-311m"),
    (
        PreTokenizer(
            (r"\n+", r"▁[^▁\n]*"),
            spelling=Spelling.WORDS,
            breaks=chunks.ESCAPED_SPACE_BREAK,
            keeps_newlines=True,
        ),
        "mmbert",
    ),
    (
        PreTokenizer((r"\n+",), spelling=Spelling.LINES, breaks=chunks.LINE_BREAK),
        "sarvam-moe",
    ),
    (
        PreTokenizer((r"\S+",), spelling=Spelling.PLAIN, breaks=chunks.SPACE_BREAK),
        "whitespace",
    ),
    (
        PreTokenizer(
            (
                r"\p{N}{1,3}",
                rf"{_CONTRACTION}|{_LETTERS}|\p{{N}}+|{_SYMBOLS}|{_SPACE_TAIL}",
            ),
            ignore_merges=True,
        ),
        "minicpm5",
    ),
)


def pre_tokenizer(name: str) -> PreTokenizer | None:
    """The pre-tokenizer that ``tokenizer.ggml.pre`` names, None if it is not known."""
    for words, names in _BY_WORDS:
        if name in names.split():
            return words
    return None

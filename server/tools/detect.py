"""Which format a model writes its calls in, by the text of its template."""

from __future__ import annotations

from collections.abc import Mapping

from slotmux.server.tools.formats.base import Format
from slotmux.server.tools.formats.gemma import GEMMA_4
from slotmux.server.tools.formats.harmony import HARMONY
from slotmux.server.tools.formats.json_calls import (
    COMMAND_R,
    FIREFUNCTION,
    GIGACHAT,
    GIGACHAT_31,
    GRANITE,
    HERMES,
    LLAMA_3,
    MINIMAX_M1,
    MISTRAL,
    NEMOTRON,
    PHI_4,
    TOOL_CALLS,
)
from slotmux.server.tools.formats.named_json import (
    DEEPSEEK_R1,
    DEEPSEEK_V31,
    FUNCTIONARY_V31,
    FUNCTIONARY_V32,
    KIMI_K2,
    MISTRAL_V11,
    SOLAR,
)
from slotmux.server.tools.formats.pythonic import LFM2
from slotmux.server.tools.formats.tagged import (
    DEEPSEEK_V4,
    DEEPSEEK_V32,
    GLM,
    GLM_TIGHT,
    HUNYUAN,
    MINICPM,
    MINIMAX_M2,
    MUSE,
    QWEN_CODER,
    SEED_OSS,
)

# The first that knows the template; the more particular stand before what they resemble.
_FORMATS: tuple[tuple[str, Format], ...] = (
    ("harmony", HARMONY),
    ("gemma-4", GEMMA_4),
    ("seed-oss", SEED_OSS),
    ("minimax-m2", MINIMAX_M2),
    ("muse", MUSE),
    ("hunyuan", HUNYUAN),
    ("deepseek-v3.2", DEEPSEEK_V32),
    ("deepseek-v4", DEEPSEEK_V4),
    ("kimi-k2", KIMI_K2),
    ("solar", SOLAR),
    ("command-r7b", COMMAND_R),
    ("mistral-v11", MISTRAL_V11),
    ("mistral", MISTRAL),
    ("nemotron", NEMOTRON),
    ("lfm2", LFM2),
    ("phi-4", PHI_4),
    ("granite-3", GRANITE),
    ("gigachat-3.1", GIGACHAT_31),
    ("gigachat", GIGACHAT),
    ("glm", GLM),
    ("qwen-coder", QWEN_CODER),
    ("minicpm", MINICPM),
    ("minimax-m1", MINIMAX_M1),
    ("tool-calls", TOOL_CALLS),
    ("firefunction", FIREFUNCTION),
    ("functionary-3.2", FUNCTIONARY_V32),
    ("functionary-3.1", FUNCTIONARY_V31),
    ("hermes", HERMES),
    ("llama-3", LLAMA_3),
)
BY_NAME: Mapping[str, Format] = {
    **dict(_FORMATS),
    "deepseek-r1": DEEPSEEK_R1,
    "deepseek-v3.1": DEEPSEEK_V31,
}


# Formats that are none of ours and have marks of one that is.
_STRANGE = ("]<]minimax[>[",)


def format_of(template: str, sample: str = "") -> tuple[str, Format] | None:
    """The format's name and itself; None if the template knows no tools, or none of ours.
    ``sample``: a prompt that it made, for marks that it puts together."""
    if "tools" not in template or any(mark in template for mark in _STRANGE):
        return None
    source = f"{template}\n{sample}"
    if DEEPSEEK_V31.knows(source):
        is_old = DEEPSEEK_R1.knows(source)
        return ("deepseek-r1", DEEPSEEK_R1) if is_old else ("deepseek-v3.1", DEEPSEEK_V31)
    for name, format_ in _FORMATS:
        if format_.knows(source):
            if format_ is GLM and "\\n<arg_key>" not in source and "\n<arg_key>" not in source:
                return name, GLM_TIGHT
            return name, format_
    return None

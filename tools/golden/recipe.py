"""What a golden model is made from: a class of transformers, a tiny configuration, a vocabulary."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Weights: TypeAlias = "dict[str, Tensor]"
Config = dict[str, object]

SEED = 20260131
PROMPT_LENGTHS = (7, 37, 150)
N_VOCAB = 547
# Far larger than in real checkpoints, so that a wrong epsilon shows.
EPSILON = 1e-3
TOKEN_IDS: Config = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 3}

FLOAT_TYPES = ("F16", "BF16")
MOE_TYPES = ("MXFP4_MOE",)  # of experts; rows of 32 will do
BLOCK_TYPES = (
    "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K",
    "IQ4_NL", "IQ4_XS",
)  # fmt: skip


def as_saved(config: Config) -> Config:
    """The config.json of most families: as transformers saves it."""
    return config


@dataclass(frozen=True, slots=True)
class Recipe:
    """A model of transformers, converted by llama.cpp.

    ``config`` holds the keywords of ``config_class``; the vocabulary's size and special tokens are
    added. ``published`` turns the saved config.json into the form that checkpoints have.
    """

    name: str
    model_class: str
    config_class: str
    config: Mapping[str, object]
    n_vocab: int = N_VOCAB  # tokens of the vocabulary
    n_padded_vocab: int = 0  # rows of the embedding, if more
    tokenizer: Literal["bpe", "spm", "fallback_bpe", "wordpiece", "unigram"] = "bpe"
    pre: str = "qwen2"  # llama.cpp's name of the pre-tokenizer
    offset_norms: tuple[str, ...] = ()  # patterns of norms whose weights are stored less one
    plain_norms: tuple[str, ...] = ()  # and of their exceptions
    transposed: tuple[str, ...] = ()  # patterns of weights whose last two axes change places
    table: tuple[str, str] | None = (
        None  # names of a large one that is stored in Q8_0: ours, GGUF's
    )
    has_mtp: bool = False
    # Its checkpoints' form: see model/next_block.py.
    mtp_form: Literal["qwen", "layer", "nemotron"] = "qwen"
    ternary: tuple[str, ...] = ()  # patterns of weights that are -1, 0 or 1 times a scale
    published: Callable[[Config], Config] = as_saved
    rewritten: Callable[[Weights], Weights] | None = None  # as the checkpoint names and cuts them
    reads_raw_config: bool = False  # the converter shall not fill in defaults of transformers
    has_plain_vocab: bool = False  # the converter shall not look for tokens of the family
    converter_flags: tuple[str, ...] = ()
    file_name: str = ""  # general.name, if not golden-NAME
    seed_offset: int = 0
    has_tokenizations: bool = False
    looks_up_gelu: bool = False  # llama.cpp's GELU comes from a half-precision table
    known_difference: float = 0.0  # of both references, in deviations; see the note
    keeps_float: bool = True  # the float32 file is kept, not only quantised ones
    quantised: tuple[str, ...] = ()  # types that llama-quantize shall make
    # llama.cpp takes sizes of heads from the first layer's number of them: it is asked with a copy
    # of the file in which every layer has as many.
    has_heads_everywhere: bool = False
    written: str = ""  # module of tools.golden.written, where transformers has no such model
    note: str = ""

    @property
    def hf_class(self) -> str:
        """The class that made the first reference."""
        return "torch" if self.written else self.model_class

    @property
    def seed(self) -> int:
        """Of weights and prompts."""
        return seed_of(self.name) + self.seed_offset

    @property
    def full_config(self) -> Config:
        """All keywords of ``config_class``."""
        size = self.n_padded_vocab or self.n_vocab
        return {"vocab_size": size, **TOKEN_IDS, **self.config}


@dataclass(frozen=True, slots=True)
class RwkvRecipe:
    """RWKV, which transformers has not: the first reference is the recurrence in NumPy."""

    name: Literal["rwkv6", "rwkv7"]
    dims: Mapping[str, int]
    n_vocab: int = 501
    epsilon: float = EPSILON
    has_tokenizations: bool = False
    note: str = ""
    hf_class: str = field(default="numpy", init=False)
    looks_up_gelu: bool = field(default=False, init=False)
    known_difference: float = field(default=0.0, init=False)
    keeps_float: bool = field(default=True, init=False)
    quantised: tuple[str, ...] = field(default=(), init=False)

    @property
    def seed(self) -> int:
        """Of weights and prompts."""
        return seed_of(self.name)


AnyRecipe = Recipe | RwkvRecipe


def seed_of(name: str) -> int:
    """The seed that goes with a name."""
    return SEED + sum(name.encode()) * 131


def renaming(*patterns: tuple[str, str]) -> Callable[[Weights], Weights]:
    """For ``rewritten``: tensors as saved -> as published."""

    def rewritten(weights: Weights) -> Weights:
        out = {}
        for name, weight in weights.items():
            for pattern, published in patterns:
                name = re.sub(pattern, published, name)
            out[name] = weight
        return out

    return rewritten


def rope(theta: float, **more: object) -> Config:
    """`rope_parameters` of a plain rotary embedding."""
    return {"rope_theta": theta, "rope_type": "default", **more}


def rounded_up(n: int, multiple: int) -> int:
    """Some converters round a vocabulary up."""
    return -(-n // multiple) * multiple

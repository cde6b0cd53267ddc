"""The tokenizer: byte-level BPE with Qwen's words, and ChatML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

START, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
END = IM_END
SPECIALS = (START, IM_START, IM_END)

# As `tokenizer.ggml.pre` = qwen35 has it.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\n' + (message['content'] | trim) + '<|im_end|>\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)

Message = tuple[str, str]  # role, content


def byte_level(model: models.BPE) -> Tokenizer:
    """A tokenizer that cuts text into words, and the bytes of words by the model's merges."""
    tokenizer = Tokenizer(model)
    split = pre_tokenizers.Split(Regex(_WORDS), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train_tokenizer(texts: Iterable[str], n_vocab: int) -> Tokenizer:
    """Learn merges from ``texts``; every byte is a token, so any text can be encoded."""
    tokenizer = byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocab,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def known_tokenizer(tokens: Sequence[str], merges: Sequence[str]) -> Tokenizer:
    """The tokenizer of a file, as its metadata has it."""
    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    tokenizer = byte_level(models.BPE({t: i for i, t in enumerate(tokens)}, pairs))
    tokenizer.add_special_tokens(list(SPECIALS))
    return tokenizer


def render(messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
    """What the chat template makes of a conversation."""
    text = "".join(f"{IM_START}{role}\n{content}{IM_END}\n" for role, content in messages)
    return text + (f"{IM_START}assistant\n" if add_generation_prompt else "")

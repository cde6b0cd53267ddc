"""Small vocabularies, trained on text that every machine has: Python's sources, two licences.

Another version of Python has other sources, and so gives another vocabulary; weights and prompts
do not depend on it.
"""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

SOURCES = (
    "argparse.py", "inspect.py", "typing.py", "decimal.py", "turtle.py", "pydoc.py", "doctest.py",
)  # fmt: skip
LICENCES = ("GPL-3", "MPL-2.0")

BPE_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>", "<think>", "</think>"]
THOUGHTS = ("<think>", "</think>")  # ordinary added tokens, no control tokens
BPE_ROLES = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|pad|>"}
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA_TURNS = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message['role'] + '\n' + "
    "message['content'] + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
GEMMA_SPECIALS = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
# What GGUF calls qwen2, and qwen35, where combining marks count as letters.
SPLITS = {
    "qwen2": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "qwen35": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|"
        r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}


def corpus() -> list[str]:
    """Paths of the text that vocabularies are trained on, as far as this machine has it."""
    library = Path(sysconfig.get_paths()["stdlib"])
    licences = Path("/usr/share/common-licenses")
    files = [library / name for name in SOURCES] + [licences / name for name in LICENCES]
    return [str(file) for file in files if file.is_file()]


def write_bpe(folder: Path, n_vocab: int, pre: str) -> None:
    """A byte-level BPE vocabulary of exactly ``n_vocab`` tokens, as transformers' files."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=False))
    if pre == "gpt-2":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    else:
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(SPLITS[pre]), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocab,
        special_tokens=BPE_SPECIALS,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train(corpus(), trainer)
    assert tokenizer.get_vocab_size() == n_vocab, tokenizer.get_vocab_size()
    data = json.loads(tokenizer.to_str())
    for token in data["added_tokens"]:
        token["special"] = token["content"] not in THOUGHTS
    (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False))
    kept = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **BPE_ROLES,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 4096,
        "chat_template": CHATML,
        "added_tokens_decoder": {
            str(token["id"]): {key: token[key] for key in kept} for token in data["added_tokens"]
        },
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False))
    (folder / "special_tokens_map.json").write_text(json.dumps(BPE_ROLES))


def write_fallback_bpe(folder: Path, n_vocab: int) -> None:
    """A BPE vocabulary over characters, spaces as U+2581, bytes to fall back to: Gemma 4's form."""
    n_bytes = [f"<0x{i:02X}>" for i in range(256)]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("\n+"), behavior="isolated")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocab,
        special_tokens=[*GEMMA_SPECIALS, *n_bytes],
        show_progress=False,
        limit_alphabet=100,
        max_token_length=12,
    )
    tokenizer.train(corpus(), trainer)
    assert tokenizer.get_vocab_size() == n_vocab, tokenizer.get_vocab_size()
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] in GEMMA_SPECIALS]
    (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False))
    roles = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **roles,
        "chat_template": GEMMA_TURNS,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))


def write_spm(folder: Path, n_vocab: int) -> None:
    """A SentencePiece vocabulary with bytes to fall back to, for converters that want one."""
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        input=",".join(corpus()),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=n_vocab,
        byte_fallback=True,
        character_coverage=0.9995,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        user_defined_symbols=["<start_of_turn>", "<end_of_turn>"],
        split_digits=True,
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        max_sentence_length=20000,
        normalization_rule_name="identity",
        num_threads=1,
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    config = {
        "tokenizer_class": "GemmaTokenizer",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "chat_template": GEMMA_TURNS,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))


def write_wordpiece(folder: Path, n_vocab: int) -> None:
    """A WordPiece vocabulary of exactly ``n_vocab`` tokens, as BERT's files."""
    roles = {
        "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]",
        "mask_token": "[MASK]",
    }  # fmt: skip
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=n_vocab, special_tokens=specials, show_progress=False
    )
    tokenizer.train(corpus(), trainer)
    assert tokenizer.get_vocab_size() == n_vocab, tokenizer.get_vocab_size()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(t, specials.index(t)) for t in ("[CLS]", "[SEP]")],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(f"{text}\n" for text, _ in vocab))
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, **roles}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    (folder / "special_tokens_map.json").write_text(json.dumps(roles))


def write_unigram(folder: Path, n_vocab: int) -> None:
    """A SentencePiece vocabulary of unigrams, as XLM-RoBERTa's: the converter adds a token."""
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        input=",".join(corpus()),
        model_prefix=str(folder / "sentencepiece.bpe"),
        model_type="unigram",
        vocab_size=n_vocab - 2,
        character_coverage=0.9995,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "sentencepiece.bpe.vocab").unlink()
    config = {"tokenizer_class": "XLMRobertaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))

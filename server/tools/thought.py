"""Where a model's thoughts begin and end, by its template."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Thinking:
    """The texts around a thought. ``opening`` may be '' in what a model writes: some templates
    begin the thought in the prompt and never show the mark."""

    opening: str
    closing: str


# The first whose closing mark a template knows. What is longer stands before what it begins with.
_KNOWN = (
    Thinking("[THINK]", "[/THINK]"),
    Thinking("<seed:think>", "</seed:think>"),
    Thinking("<think:opensource>", "</think:opensource>"),
    Thinking("<mm:think>", "</mm:think>"),
    Thinking("<|START_THINKING|>", "<|END_THINKING|>"),
    Thinking("<|inner_prefix|>", "<|inner_suffix|>"),
    Thinking("<|channel>thought\n", "<channel|>"),
    Thinking("Here are my reasoning steps:\n", "[BEGIN FINAL RESPONSE]"),
    Thinking("<think>", "</think>"),
)


def thinking_of(source: str) -> Thinking | None:
    """How thoughts are marked by models with this template; None if they do not think."""
    plain = source.replace("\\n", "\n")
    for thinking in _KNOWN:
        if thinking.closing in plain:
            return thinking
    return None


def is_open_in(prompt: str, thinking: Thinking) -> bool:
    """Whether the answer to ``prompt`` begins inside a thought."""
    return prompt.rstrip().endswith(thinking.opening.rstrip())


def is_left_open(text: str, thinking: Thinking) -> bool:
    """Whether a thought that began in ``text``, an answer that goes on, has not ended in it."""
    return text.rfind(thinking.opening) > text.rfind(thinking.closing)

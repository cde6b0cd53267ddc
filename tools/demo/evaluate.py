"""What the trained network can do, measured in PyTorch: recall, drafts that hold, samples."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer

from tools.demo import recall
from tools.demo.corpus import as_prompt
from tools.demo.delta import CHUNK
from tools.demo.model import DemoModel
from tools.demo.parts import Parts
from tools.demo.text.chats import SKILLS
from tools.demo.vocab import IM_END

SAMPLES = (
    "Hello!", "Who are you?", "What is slotmux?", "How do I start the server?",
    "Tell me a story about a fox.", "Why is the sky blue?", "What is 7 plus 8?",
    "Does my answer depend on other users?", "Spell the word tiger.", "Name three birds.",
    "What is speculative decoding?", "Tell me about the kobidumave.", "Who won the world cup?",
)  # fmt: skip


@torch.no_grad()
def greedy(model: DemoModel, prompts: Sequence[list[int]], n_new: int, end: int) -> list[list[int]]:
    """Answers up to ``end``, everything computed again for each token: simple, for few tokens."""
    device = model.token_embd.device
    known = [list(prompt) for prompt in prompts]
    is_done = [False] * len(known)
    for _ in range(n_new):
        width = -(-max(map(len, known)) // CHUNK) * CHUNK
        tokens = torch.tensor([ids + [end] * (width - len(ids)) for ids in known], device=device)
        at = torch.tensor([len(ids) - 1 for ids in known], device=device)
        hidden = model.trunk(tokens)[torch.arange(len(known), device=device), at]
        for i, token in enumerate(model.logits(hidden).argmax(-1).tolist()):
            if not is_done[i]:
                known[i].append(token)
                is_done[i] = token == end
        if all(is_done):
            break
    return [ids[len(prompt) :] for ids, prompt in zip(known, prompts, strict=True)]


def recall_share(model: DemoModel, tokenizer: Tokenizer, n: int) -> tuple[float, list[str]]:
    """Share of codewords repeated, and some failures."""
    n_right, failures = 0, []
    cases, end = recall.cases(n), tokenizer.token_to_id(IM_END)
    for start in range(0, n, 125):
        part = cases[start : start + 125]
        prompts = [as_prompt(tokenizer, list(case.messages)) for case in part]
        for case, ids in zip(part, greedy(model, prompts, 40, end), strict=True):
            text = tokenizer.decode(ids)
            n_right += case.word in text
            if case.word not in text:
                failures.append(f"{case.word}: {case.messages[-1][1][-60:]!r} -> {text!r}")
    return n_right / n, failures[:12]


@torch.no_grad()
def draft_shares(model: DemoModel, tokenizer: Tokenizer, n: int, n_drafts: int = 3) -> list[float]:
    """Of each draft, the share that the trunk agrees with where it agreed with those before."""
    rng, end = random.Random("drafts"), tokenizer.token_to_id(IM_END)
    functions, weights = zip(*SKILLS, strict=True)
    questions = [skill(rng)[0][0] for skill in rng.choices(functions, weights, k=n)]
    prompts = [as_prompt(tokenizer, [("user", q)]) for q in questions]
    answers = greedy(model, prompts, 64, end)
    n_right, n_tried = [0] * n_drafts, [0] * n_drafts
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = prompt + answer
        width = -(-len(ids) // CHUNK) * CHUNK
        tokens = torch.tensor([ids + [end] * (width - len(ids))], device=model.token_embd.device)
        guesses = [
            model.logits(h)[0].argmax(-1).tolist()
            for h in model.predictions(tokens, model.trunk(tokens), n_drafts)
        ]
        # Pass s at position p has seen x[p - s] with the trunk's state and predicts x[p + 1].
        for first in range(len(prompt), len(ids) - n_drafts):
            for s in range(n_drafts):
                n_tried[s] += 1
                if guesses[s][first + s] != ids[first + s + 1]:
                    break
                n_right[s] += 1
    return [right / max(1, tried) for right, tried in zip(n_right, n_tried, strict=True)]


def report(model: DemoModel, tokenizer: Tokenizer, n_recall: int, n_drafts: int) -> str:
    """All measurements as text."""
    parts, model.parts = model.parts, Parts()
    end = tokenizer.token_to_id(IM_END)
    share, failures = recall_share(model, tokenizer, n_recall)
    lines = [f"recall of {n_recall} codewords: {100 * share:.1f} %", *failures]
    shares = draft_shares(model, tokenizer, n_drafts)
    lines.append("drafts accepted: " + ", ".join(f"{100 * s:.1f} %" for s in shares))
    prompts = [as_prompt(tokenizer, [("user", q)]) for q in SAMPLES]
    for question, ids in zip(SAMPLES, greedy(model, prompts, 96, end), strict=True):
        lines.append(f"> {question}\n{tokenizer.decode(ids)}")
    model.parts = parts
    return "\n".join(lines)

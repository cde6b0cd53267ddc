"""lm-eval over /v1/completions: likelihoods of 20 questions with choices, and 20 to complete."""

from __future__ import annotations

import json

import pytest

from tests.clients.page import snippet

N_ITEMS = 20
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
CHOICE = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{question}}}}"
"""
LIKELIHOOD = (
    CHOICE
    + """
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
metric_list: [{{metric: acc}}]
"""
)
GENERATE = (
    CHOICE
    + """
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 8, temperature: 0}}
metric_list: [{{metric: exact_match, ignore_case: true, ignore_punctuation: true}}]
"""
)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    lines = []
    for index in range(N_ITEMS):
        digit, other = index % 10, (index + 3) % 10
        question = f"1 is one. 2 is two. 3 is three.\nThe number {digit} is written"
        choices = [f" {WORDS[digit]}", f" {WORDS[other]}"]
        item = {"question": question, "choices": choices, "label": 0, "answer": choices[0].strip()}
        lines.append(json.dumps(item))
    (folder / "items.jsonl").write_text("\n".join(lines))
    for name, text, kind in (
        ("likely", LIKELIHOOD, "multiple_choice"),
        ("written", GENERATE, "generate_until"),
    ):
        told = text.format(name=name, data=folder / "items.jsonl", kind=kind)
        (folder / f"{name}.yaml").write_text(told)
    return folder


def test_both_kinds(small, tasks, tokenizer, monkeypatch, tmp_path):
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.tasks import TaskManager

    told = snippet("lm-eval", small).replace("FOLDER", str(tokenizer)).split("--model_args ")[1]
    arguments = dict(word.split("=", 1) for word in told.strip().split(","))
    arguments |= {"tokenizer_backend": "huggingface", "num_concurrent": 4, "max_retries": 1}
    results = lm_eval.simple_evaluate(
        model="local-completions",
        model_args=arguments,
        tasks=["likely", "written"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
    )
    assert {n["effective"] for n in results["n-samples"].values()} == {N_ITEMS}
    assert results["results"]["likely"]["acc,none"] >= 0.9
    assert len(results["samples"]["written"]) == N_ITEMS
    for sample in results["samples"]["written"]:
        assert sample["resps"][0][0].strip()

"""guidellm's benchmark over chat, with prompts made up by the model's own tokenizer."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.clients.agents.session import APART
from tests.clients.page import snippet

GUIDELLM = APART / "bin" / "guidellm"
N_REQUESTS = 6
WITHIN_S = 900


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/completions"])
def test_a_benchmark_without_errors(small, tokenizer, tmp_path, route):
    report = tmp_path / "report.json"
    words = snippet("guidellm", small).replace("FOLDER", str(tokenizer)).split()
    words[3] += f",request_format={route}"
    command = [
        str(GUIDELLM), *words[1:], "--disable-console", "--output", f"kind=json,path={report}"
    ]  # fmt: skip
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, env=offline)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    (benchmark,) = json.loads(report.read_text())["benchmarks"]
    totals = benchmark["metrics"]["request_totals"]
    assert (totals["successful"], totals["errored"]) == (N_REQUESTS, 0)
    for request in benchmark["requests"]["successful"]:
        assert request["output_tokens"] == 8
        assert request["prompt_tokens"] >= 32
        assert request["time_to_first_token_ms"] > 0

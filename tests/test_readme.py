"""What the README and docs/ claim in names: files, endpoints, commands, parameters, models."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from slotmux.runtime.gguf.metadata import Metadata
from slotmux.runtime.models.architectures import FAMILIES
from slotmux.server.cli import app as cli
from slotmux.server.loading.sampling import sampling_defaults
from slotmux.server.schemas.chat import ChatRequest
from slotmux.server.settings import Settings, load_settings
from tests.conftest import ROOT
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import running

README = (ROOT / "README.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])


def row(name: str) -> str:
    """A row of the table of what is supported."""
    found = re.search(rf"^\| {re.escape(name)} \| (.*) \|$", README, re.M)
    assert found is not None, name
    return found[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def test_endpoints_exist() -> None:
    named = re.findall(r"`(/[\w/.]*)`", row("endpoints"))
    assert len(named) > 20
    with running(FakeEngine()) as server:
        for path in named:
            answer = httpx.request("GET", server.url + path)
            assert answer.status_code != 404, path


def test_commands_exist() -> None:
    tools = README.split("## Tools", 1)[1]
    rows = re.findall(r"^\| (`slotmux .*?) \|", tools, re.M)
    named = {name for row in rows for name in re.findall(r"`slotmux (\w+)", row)}
    help_text = CliRunner().invoke(cli, ["--help"]).output
    offered = set(re.findall(r"^  (\w+)  ", help_text, re.M))
    assert named | {"serve"} == offered


def test_speeds_are_those_of_the_benchmarks() -> None:
    """Rows of the first table, each beside the files and tests that it is of."""
    files = {
        "SmolLM2-135M-Instruct Q4_1": ("SmolLM2-135M-Instruct", "Q4_1"),
        "Qwen3.5 0.8B's shape, Q4_K_M": ("qwen35-0.8b", "Q4_K_M"),
        "LFM2 350M's shape, Q8_0": ("lfm2-350m", "Q8_0"),
        "Llama 1B's shape, Q4_K_M": ("llama-1b", "Q4_K_M"),
    }
    measured = {}
    for line in (ROOT / "docs/benchmarks.md").read_text().split("## ", 1)[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 11:
            measured[tuple(cells[:3])] = cells[3], cells[5]
    for name, file in files.items():
        told = row(name).split(" | ")
        for test, text in zip(("tg64", "tg64x8", "pp512"), told, strict=True):
            speed, ratio = measured[(*file, test)]
            assert text == f"{speed} ({float(ratio):.1f})", (name, test)


def test_flags_exist() -> None:
    flags = set(re.findall(r"`(--[a-z-]+)", README))
    assert len(flags) > 5
    for flag in flags - {"--tokens", "--out", "--mtp"}:  # of `slotmux logits`
        assert flag[2:].replace("-", "_") in {*Settings.model_fields}, flag


def test_families_are_those_that_load() -> None:
    text = " ".join(
        row(name)
        for name in (
            "hybrid and recurrent models",
            "mixtures of experts",
            "other models",
            "embeddings, reranking",
        )
    )
    missing = {
        name for name in FAMILIES if not re.search(rf"\b{re.escape(name)}\b", text.replace("`", ""))
    }
    told_by_name = {"jamba", "falcon-h1", "nemotron_h", "nemotron_h_moe", "lfm2", "lfm2moe"}
    assert missing <= told_by_name
    for word in ("Jamba", "Falcon-H1", "Nemotron-H and its MoE", "LFM2 and its MoE"):
        assert word in text


def test_sampling_parameters_exist() -> None:
    words = set(re.findall(r"\b[a-z]+_[a-z_]+\b", row("sampling") + row("tools, thoughts")))
    assert len(words) > 8
    assert words <= set(ChatRequest.model_fields)


def test_sampling_defaults_are_those_told() -> None:
    told = re.search(r"temperature ([\d.]+), top_k (\d+), top_p ([\d.]+), min_p ([\d.]+)", README)
    assert told is not None
    params = sampling_defaults(load_settings(insecure_no_key=True), Metadata({})).params
    assert tuple(map(float, told.groups())) == (
        params.temperature, params.top_k, params.top_p, params.min_p
    )  # fmt: skip

"""What docs/ claims: the site's pages and links, other servers' flags and endpoints, numbers of
sizes and speeds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from slotmux.server.cli import app
from slotmux.server.commands.llama_options import OPTIONS
from slotmux.server.router.app import OWN
from slotmux.server.settings import Settings, env_name, flag_name
from slotmux.server.terminal.commands import WORDS
from tests.conftest import ROOT
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import RunningServer, running
from tools.site.pages import MORE, OUTSIDE, REPOSITORY, page_of, whole_nav, with_links

DOCS = ROOT / "docs"
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
COMING = ("coming-from/llama-server", "coming-from/ollama", "coming-from/vllm")
# Pages whose every flag is one of ours.
OURS = ("terminal", "sizing", "serving", "dialects")


def text_of(page: str) -> str:
    return (DOCS / f"{page}.md").read_text("utf-8")


def flags_of(command: str) -> set[str]:
    return {
        name
        for param in COMMANDS[command].params
        for name in (*param.opts, *param.secondary_opts)
        if name.startswith("-")
    }


def rows_of(page: str, heading: str) -> list[list[str]]:
    """The cells of the tables below a heading."""
    part = re.split(rf"^## {heading}$", text_of(page), maxsplit=1, flags=re.M)[1]
    part = re.split(r"^## ", part, maxsplit=1, flags=re.M)[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [row for row in map(_cells, lines) if not set("".join(row)) <= {"-", ":"}]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip()[1:-1].split("|")]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(FakeEngine()) as server:
        yield server


@pytest.mark.parametrize("page", COMING)
def test_endpoints_do_what_is_told(page: str, server: RunningServer) -> None:
    told = [row for row in rows_of(page, "Endpoints") if row[0].startswith("`")]
    assert len(told) > 12
    for endpoint, here, *_ in told:
        method, path = endpoint.strip("`").split()
        status = httpx.request(method, server.url + path).status_code
        if here == "works" and path == "/infill":
            assert status == 400, endpoint  # the body is missing
        elif here == "works":
            assert status in (200, 400), (endpoint, status)
        else:
            assert status == int(here), endpoint


# Ends of paths that a page has named before, and places in a file system.
NO_ENDPOINT = re.compile(
    r"/(v1|input_items|input_tokens)|/(dev|etc|opt|proc|run|srv|sys|tmp|var)\b.*"
)
NAMED_ENDPOINT = re.compile(r"`(?:[A-Z]+ )?(/[a-zA-Z][\w/.{}-]*)(?:\?[^`]*)?`")


def test_endpoints_that_pages_name_exist(server: RunningServer) -> None:
    """Those of other servers stand in tables of their own, see above."""
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    of_router = [each.path for module in OWN for each in module.endpoints.all]
    known = [re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path)) for path in (*paths, *of_router)]
    n_named = 0
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        if page.stem == "terminal" or page.parent.name == "coming-from":
            continue
        for path in NAMED_ENDPOINT.findall(page.read_text("utf-8")):
            n_named += 1
            is_known = any(pattern.fullmatch(path) for pattern in known)
            assert is_known or NO_ENDPOINT.fullmatch(path), (page.name, path)
    assert n_named > 50


@pytest.mark.parametrize("page", ["coming-from/ollama", "coming-from/vllm"])
def test_flags_and_commands_that_take_the_place_of_others_exist(page: str) -> None:
    text = text_of(page)
    everything = set().union(*(flags_of(command) for command in COMMANDS))
    heading = "Variables" if page == "coming-from/ollama" else "Flags"
    rows = [row for row in rows_of(page, heading) if row[0].startswith("`")]
    assert len(rows) > 12
    for theirs, ours, *why in rows:
        named = re.findall(r"`(--[a-z-]+)`", ours)
        assert set(named) <= flags_of("serve"), theirs
        variables = re.findall(r"`SLOTMUX_\w+`", ours)
        assert named or variables or "".join(why), f"{theirs}: what instead?"
    for command, rest in re.findall(r"`slotmux (\w+)([^`]*)`", text):
        assert command in COMMANDS, command
        for flag in re.findall(r"(?<!\S)(--[a-z-]+)", rest):
            assert flag in flags_of(command), (command, flag)
    for flag in re.findall(r"`(--[a-z-]+)[` ]", text.split("## Endpoints")[-1]):
        assert flag in everything, flag


@pytest.mark.parametrize("page", COMING)
def test_commands_that_take_the_place_of_others_exist(page: str) -> None:
    rows = rows_of(page, "Commands")[1:]
    assert len(rows) > 4
    for theirs, ours, *why in rows:
        found = re.match(r"`slotmux (\w+)", ours)
        assert found is None or found[1] in COMMANDS, theirs
        assert ours or "".join(why), f"{theirs}: what instead?"


@pytest.mark.parametrize("page", OURS)
def test_flags_exist(page: str) -> None:
    text = text_of(page)
    everything = set().union(*(flags_of(command) for command in COMMANDS))
    foreign = {"--cpunodebind", "--membind", "--cpuset-cpus", "--cpus"}  # of numactl and docker
    for flag in set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*)", text)) - foreign:
        assert flag in everything, flag
    for code in _code(text):
        for command in re.findall(r"^(?:echo .* \| *)?slotmux (\w+)", code.strip()):
            assert command in COMMANDS, command


def _code(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.startswith("    "):
            yield line
    yield from re.findall(r"`([^`\n]+)`", text)


def test_commands_of_a_chat_are_those_told() -> None:
    told = set(re.findall(r"^\| [^|]*?`(/\w+)", text_of("terminal"), re.M))
    told |= set(re.findall(r"`(/load)", text_of("terminal")))
    assert told == set(WORDS)


def test_variables_exist() -> None:
    known = {env_name(flag_name(field)) for field in Settings.model_fields}
    for page in (*COMING, *OURS):
        for name in re.findall(r"\bSLOTMUX_[A-Z_]+", text_of(page)):
            assert name in known, (page, name)


def test_options_of_llama_server_have_an_answer() -> None:
    text = text_of("coming-from/llama-server")
    assert all(f"`{name}`" in text for name in OPTIONS)


METRIC = re.compile(r"`((?:vllm|llamacpp):\w+|slotmux_\w+)`")


def test_metrics_exist(server: RunningServer) -> None:
    told = httpx.get(f"{server.url}/metrics").text
    named = METRIC.findall(text_of("coming-from/vllm"))
    assert len(named) > 15
    for name in named:
        assert re.search(rf"^{name}(_total|_bucket)?[ {{]", told, re.M), name


def test_sizes_are_those_of_inspect(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _example("demo", monkeypatch) == _told_sizes(0)


@pytest.mark.real
def test_sizes_of_smollm2_are_those_of_inspect(
    smollm2_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _example(str(smollm2_path), monkeypatch) == _told_sizes(1)


def _example(model: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    monkeypatch.setenv("SLOTMUX_THREADS", "2")
    monkeypatch.setenv("SLOTMUX_MEM_LIMIT", str(16 * 10**9))
    args = ["inspect", model, "--parallel", "8", "--ctx-size", "2048", "--isa", "portable"]
    result = CliRunner().invoke(app, [*args, "--json"])
    memory: dict[str, int] = json.loads(result.output)["memory"]
    return {name: memory[name] for name in _told_sizes(0)}


def _told_sizes(column: int) -> dict[str, int]:
    rows = re.findall(r"^\|[^|]*\(`(\w+_bytes)`\) \| (\d+) \| (\d+) \|$", text_of("sizing"), re.M)
    assert len(rows) == 8
    return {name: int(values[column]) for name, *values in rows}


def test_the_formula_of_cells_gives_what_is_told() -> None:
    text = text_of("sizing")
    for layers, heads, k, v, told in re.findall(
        r"(\d+) x (\d+) x \((\d+) \+ (\d+)\) x 2 = (\d+)", text
    ):
        assert int(layers) * int(heads) * (int(k) + int(v)) * 2 == int(told)
    by_hand = re.findall(
        r"(\d+) layers, (\d+) KV heads of (\d+) \+ (\d+) \| (\d+) bytes \| ([\d.]+) GB", text
    )
    assert len(by_hand) == 3
    for layers, heads, k, v, told, whole in by_hand:
        cell = int(layers) * int(heads) * (int(k) + int(v)) * 2
        assert cell == int(told)
        assert float(whole) == pytest.approx(cell * 8 * 8192 / 1e9, abs=0.05)


def test_speeds_are_those_measured() -> None:
    """The first table of the benchmarks: files, tg64 and tg64x8."""
    table = text_of("benchmarks").split("## Beside")[0]
    lines = (line.replace("**", "") for line in table.splitlines())  # weak cells are bold
    rows = [_cells(line) for line in lines if line.startswith("| ")]
    rows = [row for row in rows if len(row) == 11]
    alone = {(m, t): row for m, t, test, *row in rows if test == "tg64"}
    together = {(m, t): row for m, t, test, *row in rows if test == "tg64x8"}
    assert len(alone) == len(together) > 10
    text = re.sub(r"\s+", " ", text_of("sizing"))
    shares = [int(row[4]) for row in alone.values()]
    assert f"share was {min(shares)} to {max(shares)} % of the fastest reads" in text
    times = [float(together[file][0]) / float(alone[file][0]) for file in alone]
    assert f"Eight together made {min(times):.1f} to {max(times):.1f} times" in text
    reads = re.search(r"memory reads ([\d.]+) GB/s", table)
    assert reads is not None
    fastest = float(reads[1])
    low, high = (share / 100 * fastest / 4.9 for share in (min(shares), max(shares)))
    assert f"would come to {low:.0f} to {high:.0f} tokens a second" in text
    prompts = {
        m: row[0] for m, t, test, *row in rows if test == "pp512" and t[:4] in ("Q4_K", "Q4_0")
    }
    assert f"{prompts['llama-1b']} tokens a second for a 1B model" in text


# The site.


def test_every_page_of_the_site_is_there_or_left_out() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    whole = whole_nav(nav, [*pages, *OUTSIDE.values()])
    named = re.findall(r"[\w/-]+\.md", json.dumps(whole))
    assert sorted(named) == sorted({*pages, *OUTSIDE.values()})
    assert whole_nav([{"A": "a.md"}, {"B": [{"C": "c.md"}]}], ["c.md", "d.md", "x/e.md"]) == [
        {"B": [{"C": "c.md"}]}, {MORE: ["d.md", "x/e.md"]}
    ]  # fmt: skip
    assert whole_nav([{"A": [{"B": "b.md"}]}], []) == []


def test_links_lead_to_pages_or_to_the_repository() -> None:
    text = "[a](docs/samplers.md#x) [b](server/cli.py) [c](https://a/b) [d](#e) [f](docs/design)\n"
    text += "```\n[g](docs/tools.md)\n```\n"
    assert with_links(text, "README.md", "index.md") == (
        f"[a](samplers.md#x) [b]({REPOSITORY}/server/cli.py) [c](https://a/b) [d](#e)"
        f" [f]({REPOSITORY}/docs/design)\n```\n[g](docs/tools.md)\n```\n"
    )
    up = "![a](../benchmarks.svg) [b](../../README.md) [c](memory.md)"
    assert with_links(up, "docs/design/kernels.md", "design/kernels.md") == (
        "![a](../benchmarks.svg) [b](../index.md) [c](memory.md)"
    )
    assert page_of("deploy/README.md") == "deploy.md"
    assert page_of("LICENSE") is None


ANCHOR = re.compile(r"\]\(([^)#\s]*)#([^)\s]+)\)")


def test_anchors_exist() -> None:
    n_seen = 0
    for page in [ROOT / name for name in OUTSIDE] + sorted(DOCS.rglob("*.md")):
        for link, anchor in ANCHOR.findall(page.read_text("utf-8")):
            if "://" in link:
                continue
            target = (page.parent / link) if link else page
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.M)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).strip().replace(" ", "-") for h in headings}
            assert anchor in slugs, (page.name, link, anchor)
            n_seen += 1
    assert n_seen > 5


def test_the_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="`make docs` installs it")
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)],
        cwd=ROOT, check=True,
    )  # fmt: skip
    for name in ("index.html", "sizing.html", "coming-from/vllm.html", "architecture.html"):
        assert (site / name).is_file()
    html = "".join(path.read_text("utf-8") for path in site.rglob("*.html"))
    fetched = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"?(?:https?:)?//[^\s\">]+", html)
    assert fetched == []

"""The command line: its help, its flags, its exit statuses, and the commands that load no model."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from slotmux.runtime.gguf import open_gguf
from slotmux.server import cli
from slotmux.server.cli import app
from slotmux.server.commands.flags import PANELS, POSITIONAL
from slotmux.server.commands.options import env_name, parse_counts
from slotmux.server.loading.plan import make_plan
from slotmux.server.settings import Settings, flag_name, load_settings
from tests.conftest import ROOT

COMMANDS = [
    "serve", "chat", "pull", "list", "rm", "ps", "top",
    "bench", "perplexity", "crossbleed", "inspect", "tokenize", "logits",
]  # fmt: skip
runner = CliRunner()


def _plain(text: str) -> str:
    """Help text without line breaks."""
    return re.sub(r"\s+", " ", text)


def test_help_names_every_command() -> None:
    result = runner.invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", result.output, re.M), command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


@pytest.mark.parametrize(("theirs", "ours"), [("run", "chat"), ("ls", "list"), ("show", "inspect")])
def test_ollamas_words_work(theirs: str, ours: str) -> None:
    texts = [runner.invoke(app, [name, "--help"]).output for name in (theirs, ours)]
    assert texts[0].replace(f" {theirs} ", f" {ours} ") == texts[1]
    assert not re.search(rf"^  {theirs} ", runner.invoke(app, ["--help"]).output, re.M)


def test_every_setting_is_a_flag_with_help() -> None:
    named = [name for flags in PANELS.values() for name in flags]
    assert len(named) == len(set(named))
    not_flags = {POSITIONAL, "xdg_cache_home"}  # the latter is everybody's variable, not ours
    assert set(named) | not_flags == set(Settings.model_fields)


def test_serve_help_shows_flags_and_the_defaults_of_settings() -> None:
    text = _plain(runner.invoke(app, ["serve", "--help"], terminal_width=200).output)
    assert "-c, --ctx-size N" in text
    assert f"[default: {Settings.model_fields['port'].default}]" in text
    assert "One of f16, f32, q8_0, i16." in text


def test_a_flag_has_one_variable() -> None:
    assert env_name("--cache-type-k") == "SLOTMUX_CACHE_TYPE_K"


def test_counts_are_parsed_or_refused() -> None:
    assert parse_counts("0,4096", "--depth", 0) == [0, 4096]
    for text in ("", "a", "1,,2", "-1", "1.5"):
        with pytest.raises(typer.BadParameter, match="--depth"):
            parse_counts(text, "--depth", 0)


def test_an_unknown_flag_is_refused_by_name() -> None:
    result = runner.invoke(app, ["serve", "--no-such-flag"])
    assert result.exit_code == 2
    assert "--no-such-flag" in result.output


def _main(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["slotmux", *args])
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    return int(exit_info.value.code or 0)


def test_a_missing_model_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert _main(monkeypatch, "inspect", str(tmp_path / "none.gguf")) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "none.gguf" in captured.err


def test_a_file_that_is_no_model_is_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF" + b"\0" * 100)
    assert _main(monkeypatch, "tokenize", str(path), "hello") == 2
    assert "bad.gguf" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main(monkeypatch, "crossbleed", "http://127.0.0.1:9") == 2
    assert "cannot ask http://127.0.0.1:9" in capsys.readouterr().err


def test_inspect_counts_what_the_file_holds(tiny_model_path: Callable[..., Path]) -> None:
    path = str(tiny_model_path("llama"))
    result = runner.invoke(app, ["inspect", path, "--ctx-size", "64", "--parallel", "2", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    metadata = report["metadata"]
    assert report["architecture"] == "llama"
    assert report["n_params"] == 213_312
    assert sum(kind["bytes"] for kind in report["tensor_types"].values()) == 4 * 213_312
    per_head = 2 * (
        metadata["llama.attention.key_length"] + metadata["llama.attention.value_length"]
    )
    n_heads = metadata["llama.block_count"] * metadata["llama.attention.head_count_kv"]
    # heads in whole vectors of 16
    assert 0 <= report["memory"]["kv_bytes"] / (2 * 64 * n_heads * per_head) - 1 < 0.5
    # whole panels of 16 rows
    assert 4 * 213_312 <= report["memory"]["weights_bytes"] <= 4.2 * 213_312


SERVED = (
    {},
    {"spec_type": "none"},
    {"spec_type": "ngram", "spec_draft_n_max": "7"},
    {"parallel": "9", "ctx_size": "128", "threads": "3", "batch_size": "64"},
    {"prefix_cache_bytes": "1000000", "ctx_checkpoints": "3", "cache_type_k": "f32"},
)


@pytest.mark.parametrize("is_variable", [False, True])
@pytest.mark.parametrize("flags", SERVED)
def test_inspect_says_what_serve_takes(
    flags: dict[str, str],
    is_variable: bool,
    tiny_model_path: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a model with a block for multi-token prediction."""
    path = tiny_model_path("qwen35")
    if is_variable:
        for name, value in flags.items():
            monkeypatch.setenv(env_name(flag_name(name)), value)
        words, settings = [], load_settings()
    else:
        words = [word for name, value in flags.items() for word in (flag_name(name), value)]
        settings = load_settings(**flags)
    report = runner.invoke(app, ["inspect", str(path), "--json", *words])
    assert report.exit_code == 0, report.output
    plan = make_plan(settings, open_gguf(path))
    said = json.loads(report.output)
    assert said["memory"]["total_bytes"] == plan.budget.total_bytes
    assert (said["fits"], said["remedy"]) == (True, "")


def test_inspect_says_what_would_fit(tiny_model_path: Callable[..., Path]) -> None:
    limit = ["--mem-limit", "203000000", "--ctx-size", "2048"]
    result = runner.invoke(app, ["inspect", str(tiny_model_path("llama")), *limit])
    assert result.exit_code == 0, result.output
    assert "does not fit: the limit is 194 MiB (--mem-limit); --ctx-size " in result.output


def test_inspect_reads_well_on_a_terminal(tiny_model_path: Callable[..., Path]) -> None:
    result = runner.invoke(app, ["inspect", str(tiny_model_path("qwen35"))])
    assert result.exit_code == 0, result.output
    assert "Hyper-parameters" in result.output
    assert "F32" in result.output


def test_tokenize_gives_the_ids_of_the_references(
    tiny_model_path: Callable[..., Path], golden_dir: Path
) -> None:
    golden = json.loads((golden_dir / "llama" / "tokenizer.json").read_text())
    path = str(tiny_model_path("llama"))
    texts = [entry for entry in golden["strings"] if "<|" in entry["text"]][:3]
    texts += [entry for entry in golden["strings"] if entry["text"][:1] not in ("", "-")][:5]
    assert len(texts) == 8
    for entry in texts:
        for special in (0, 1):
            flags = ["--special"] if special else []
            result = runner.invoke(app, ["tokenize", path, entry["text"], "--json", *flags])
            assert result.exit_code == 0, result.output
            expected = entry[f"add_special=1,parse_special={special}"]
            assert json.loads(result.output)["tokens"] == expected


def test_tokenize_shows_pieces_as_literals(tiny_model_path: Callable[..., Path]) -> None:
    result = runner.invoke(app, ["tokenize", str(tiny_model_path("llama")), "a\nb", "--no-bos"])
    assert result.exit_code == 0, result.output
    assert "'\\n'" in result.output


def test_no_name_is_cut_at_80_columns(tiny_model_path: Callable[..., Path]) -> None:
    help_text = runner.invoke(app, ["serve", "--help"], terminal_width=80, env={"COLUMNS": "80"})
    for flags in PANELS.values():
        for name in flags:
            assert "--" + name.replace("_", "-") in help_text.output
    assert max(map(len, help_text.output.splitlines())) <= 80
    assert "--spec-draft-p-min P" in help_text.output
    table = runner.invoke(app, ["inspect", str(tiny_model_path("qwen35"))], env={"COLUMNS": "80"})
    assert "\u2026" not in table.output
    assert "layer_norm_rms_epsilon" in table.output.replace("\n", "").replace(" ", "")


def test_version() -> None:
    result = runner.invoke(app, ["--version"])
    assert result.exit_code == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert result.output.strip() == project["version"]

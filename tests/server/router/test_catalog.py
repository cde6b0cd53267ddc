"""Which models there are: folders, sections, names, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slotmux.server.commands.serve import serve
from slotmux.server.http.errors import ApiError
from slotmux.server.router.known.catalog import Catalog, read_catalog
from slotmux.server.router.known.folder import models_in
from slotmux.server.router.processes.child_settings import child_settings
from slotmux.server.settings import Settings, SettingsError, load_settings

INI = """
version = 1
; for all
[*]
c = 2048
LLAMA_ARG_N_PARALLEL = 3
[small]
alias = s, tiny
np = 2
pinned = true
ngl = 99
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("small.gguf", "large-00001-of-00002.gguf", "large-00002-of-00002.gguf"):
        (tmp_path / name).touch()
    for name in ("mmproj-x.gguf", "note.txt", ".hidden.gguf", "half.gguf.part"):
        (tmp_path / name).touch()
    (tmp_path / "Deep").mkdir()
    for name in ("mmproj-F16.gguf", "deep-00002-of-00002.gguf", "deep-00001-of-00002.gguf"):
        (tmp_path / "Deep" / name).touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def catalog(folder: Path | None, text: str | None = None, suffix: str = ".ini", **flags) -> Catalog:
    if folder is not None:
        flags["models_dir"] = folder
    if text is not None:
        path = flags.pop("at") / f"models{suffix}"
        path.write_text(text)
        flags["models_config"] = path
    return read_catalog(load_settings(**flags), flags)


def test_a_folder_has_models_and_parts_of_models(folder):
    assert {name: str(path.relative_to(folder)) for name, path in models_in(folder).items()} == {
        "Deep": "Deep/deep-00001-of-00002.gguf",
        "large": "large-00001-of-00002.gguf",
        "small": "small.gguf",
    }


def test_sections_say_how_a_model_is_served(folder, tmp_path):
    found = catalog(folder, INI, at=tmp_path)
    small, large = found.specs["small"], found.specs["large"]
    assert (small.settings.parallel, large.settings.parallel) == (2, 3)
    assert (small.settings.ctx_size, large.settings.ctx_size) == (2048, 2048)
    assert (small.is_pinned, large.is_pinned) == (True, False)
    assert small.names == ("small", "s", "tiny")
    assert small.path == folder / "small.gguf"


def test_the_command_line_counts_most_and_the_environment_least(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SLOTMUX_THREADS", "7")
    monkeypatch.setenv("SLOTMUX_CTX_SIZE", "512")
    found = catalog(folder, INI, at=tmp_path, parallel=5)
    settings = found.specs["small"].settings
    assert (settings.parallel, settings.ctx_size, settings.threads) == (5, 2048, 7)


TOML = """
["*"]
ctx-size = 2048
[other]
model = "hf:some/repo:Q4_K_M"
alias = ["o", "p"]
panel-cache = true
keep-alive = "1h"
load-on-startup = true
"""


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_other_formats(tmp_path, suffix):
    text = TOML
    if suffix == ".json":
        import tomllib

        text = json.dumps(tomllib.loads(TOML))
    spec = catalog(None, text, suffix, at=tmp_path).specs["other"]
    assert (spec.model, spec.path, spec.aliases) == ("hf:some/repo:Q4_K_M", None, ("o", "p"))
    assert (spec.settings.panel_cache, spec.settings.keep_alive_s) == (True, 3600)
    assert spec.loads_at_start
    assert spec.settings.ctx_size == 2048


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[small]\nctx-sise = 1", "[small] ctx-sise: there is no such option"),
        ("[small]\nctx-size = many", "[small] "),
        ("[small]\npinned = perhaps", "[small] pinned: should be true or false"),
        ("[small]\nport = 80", "[small] port is the same for all models: give --port"),
        ("[small]\nmodels-dir = /x", "[small] models-dir is the same for all models"),
        ("[small]\nlora = x", "[small] lora: adapters"),
        ("[new]\nparallel = 2", "[new] says no model"),
        ("[new]\nmodel = /nowhere/x.gguf", "[new] there is no file /nowhere/x.gguf"),
        ("[small]\nalias = x\n[large]\nalias = x", "x names two models: [large], [small]"),
        ("[small]\ndefault = 1\n[large]\ndefault = 1", "are both the default"),
        ("[small\n", "models.ini"),
        ("small = 1\n", "'small' should be a section"),
    ],
)
def test_what_is_wrong_is_named(folder, tmp_path, text, words):
    with pytest.raises(SettingsError) as caught:
        catalog(folder, text, at=tmp_path)
    assert words in str(caught.value)
    assert str(caught.value).startswith("--models-config: ")


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("small", "small"),
        ("tiny", "small"),
        ("SMALL", "small"),
        ("small.gguf", "small"),
        ("small:latest", "small"),
        ("large-00001-of-00002", "large"),
        ("deep", "Deep"),
    ],
)
def test_names(folder, tmp_path, asked, name):
    assert catalog(folder, INI, at=tmp_path).find(asked).name == name


def test_a_request_without_a_model_gets_the_default_or_the_only_one(folder, tmp_path):
    found = catalog(folder, INI, at=tmp_path)
    for asked in (None, "", "default"):
        with pytest.raises(ApiError) as caught:
            found.find(asked)
        assert (caught.value.status, caught.value.param) == (400, "model")
    found = catalog(folder, INI + "default = true\n", at=tmp_path)
    assert found.find(None).name == found.find("default").name == "small"
    only = catalog(None, "[a]\nmodel = demo\n", at=tmp_path)
    assert only.find(None).name == "a"


def test_a_file_served_twice_is_called_by_its_sections_only(folder, tmp_path):
    text = f"[a]\nmodel = {folder}/small.gguf\n[b]\nmodel = {folder}/small.gguf\nc = 512\n"
    found = catalog(None, text, at=tmp_path)
    with pytest.raises(ApiError):
        found.find("small.gguf")
    assert found.find("b").settings.ctx_size == 512


def test_a_models_process_gets_all_settings_but_the_routers(folder, tmp_path):
    router = load_settings(models_dir=folder, api_key="secret", host="0.0.0.0")
    said = {"temp": 0.5, "hf_token": "token", "samplers": "k"}
    spec = catalog(folder, INI, at=tmp_path, **said).specs["small"]
    fields = json.loads(json.dumps(child_settings(spec, router, 12345)))
    settings = Settings(**fields)
    assert "secret" not in json.dumps(fields)
    assert settings.hf_token is not None
    assert settings.hf_token.get_secret_value() == "token"
    assert (settings.model, settings.alias) == (str(folder / "small.gguf"), ("small", "s", "tiny"))
    assert (settings.host, settings.api_keys, settings.mem_limit) == ("127.0.0.1", (), 12345)
    assert (settings.temp, settings.samplers) == (0.5, spec.settings.samplers)
    assert not settings.serves_several


def test_the_command_line_names_one_model_or_several(folder):
    with pytest.raises(SettingsError, match="leave out demo"):
        serve(model="demo", models_dir=folder)
    with pytest.raises(SettingsError, match="no such folder"):
        serve(models_dir=folder / "none")

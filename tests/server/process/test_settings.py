"""Flags, variables, key files."""

from __future__ import annotations

from pathlib import Path

import pydantic
import pytest

from slotmux.server.settings import SettingsError, load_settings, unknown_variables


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith(("SLOTMUX_", "HF_")):
            monkeypatch.delenv(name)


def test_flags_win_over_the_environment(monkeypatch):
    monkeypatch.setenv("SLOTMUX_PORT", "1")
    monkeypatch.setenv("SLOTMUX_PARALLEL", "2")
    settings = load_settings(port=3, parallel=None)
    assert (settings.port, settings.parallel) == (3, 2)


def test_settings_are_frozen():
    with pytest.raises(pydantic.ValidationError):
        load_settings().port = 1


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({"parallel": 0}, "parallel"),
        ({"port": 70_000}, "port"),
        ({"cache_type_k": "q4_0"}, "cache_type_k"),
        ({"body_timeout": float("inf")}, "body_timeout"),
        ({"no_such_flag": 1}, "no_such_flag"),
        ({"spec_type": "eagle"}, "spec_type"),
        ({"spec_type": "auto,ngram"}, "spec_type"),
        ({"spec_draft_n_max": 17}, "spec_draft_n_max"),
        ({"spec_draft_n_max": 2, "spec_draft_n_min": 3}, "spec_draft_n_min"),
        ({"spec_draft_p_min": 1.5}, "spec_draft_p_min"),
        ({"api_key_file": "/nonexistent/keys"}, "api_key_file"),
    ],
)
def test_what_cannot_be_used_is_named(flags, name):
    with pytest.raises(SettingsError, match=f"^--{name.replace('_', '-')}: "):
        load_settings(**flags)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "llm.lan", ""])
def test_listening_to_everyone_needs_a_key(host, tmp_path):
    with pytest.raises(SettingsError, match="needs --api-key"):
        load_settings(host=host)
    assert load_settings(host=host, api_key="k").api_keys == ("k",)
    assert load_settings(host=host, insecure_no_key=True).api_keys == ()
    empty = tmp_path / "keys"
    empty.write_text("# no key yet\n\n")
    with pytest.raises(SettingsError, match="holds no key"):
        load_settings(host=host, api_key_file=empty)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9"])
def test_loopback_needs_none(host):
    assert load_settings(host=host).is_loopback


def test_keys_come_from_everywhere(monkeypatch, tmp_path):
    monkeypatch.setenv("SLOTMUX_API_KEY", "a, b")
    keys = tmp_path / "keys"
    keys.write_text("# the team\nc\n b \n")
    settings = load_settings(api_key_file=keys)
    assert settings.api_keys == ("a", "b", "c")
    assert "a" not in repr(settings.api_key)


def test_the_hubs_own_variables_are_understood(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "t")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.lan")
    settings = load_settings()
    assert settings.hf_token.get_secret_value() == "t"
    assert settings.hf_endpoint == "http://hub.lan"


def test_caches_follow_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert load_settings().caches == Path.home() / ".cache" / "slotmux"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert load_settings().caches == tmp_path / "slotmux"
    assert load_settings(cache_dir=tmp_path / "own").caches == tmp_path / "own"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert load_settings().caches == Path.home() / ".cache" / "slotmux"


def test_an_error_names_a_setting_as_it_was_given(monkeypatch, tmp_path):
    with pytest.raises(SettingsError, match=r"^--cache-type-k: "):
        load_settings(cache_type_k="f8")
    monkeypatch.setenv("SLOTMUX_CACHE_TYPE_V", "f8")
    with pytest.raises(SettingsError, match=r"^SLOTMUX_CACHE_TYPE_V: "):
        load_settings()
    with pytest.raises(SettingsError, match=r"^--cache-type-v: "):
        load_settings(cache_type_v="f9")
    monkeypatch.delenv("SLOTMUX_CACHE_TYPE_V")
    with pytest.raises(SettingsError, match=r"^--host: .*--api-key"):
        load_settings(host="0.0.0.0")
    with pytest.raises(SettingsError, match=r"^--spec-draft-n-min: more than --spec-draft-n-max"):
        load_settings(spec_draft_n_min=9)
    with pytest.raises(SettingsError, match=r"^--api-key-file: cannot be read"):
        load_settings(api_key_file=tmp_path / "none")
    monkeypatch.setenv("SLOTMUX_API_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=r"^SLOTMUX_API_KEY_FILE: cannot be read"):
        load_settings()


def test_variables_that_nothing_reads_are_told(monkeypatch):
    monkeypatch.setenv("SLOTMUX_CTX_SIZ", "4096")
    monkeypatch.setenv("SLOTMUX_CTX_SIZE", "4096")
    monkeypatch.setenv("SLOTMUX_HF_TOKEN", "x")
    monkeypatch.setenv("SLOTMUX_N_PROMPT", "1")
    monkeypatch.setenv("SLOTMUX_POISON_FREED", "1")
    (line,) = unknown_variables({"SLOTMUX_N_PROMPT"})
    assert line == (
        "SLOTMUX_CTX_SIZ is set, but there is no such setting; did you mean SLOTMUX_CTX_SIZE?"
    )

"""A refused choice names what the operator wrote, not the runtime's own field."""

from __future__ import annotations

from dataclasses import fields

import pytest

from slotmux.runtime.errors import ConfigError
from slotmux.runtime.model import ModelConfig, load_model
from slotmux.server.config_error import _SETTINGS, in_words
from slotmux.server.settings import Settings


@pytest.mark.parametrize(
    ("field", "value", "flag"),
    [
        ("n_slots", 0, "--parallel must be 1"),
        ("n_ubatch", 10**6, "--ubatch-size must be 1"),
        ("max_drafts", 1000, "--spec-draft-n-max must be 0"),
        ("n_checkpoints", -1, "--ctx-checkpoints must not be negative"),
        ("cache_type_k", "f8", "--cache-type-k must be one of"),
        ("n_threads", -1, "--threads must not be negative"),
    ],
)
def test_the_flag_is_named(tiny_model_path, field, value, flag):
    with pytest.raises(ConfigError) as info:
        load_model(tiny_model_path("llama"), ModelConfig(**{field: value}))
    assert info.value.field == field
    assert in_words(info.value).startswith(flag)


def test_the_variable_is_named_where_the_choice_came_from_it(monkeypatch):
    monkeypatch.setenv("SLOTMUX_PARALLEL", "0")
    assert in_words(ConfigError("n_slots", "is too small")) == "SLOTMUX_PARALLEL is too small"


def test_other_errors_keep_their_words():
    assert in_words(ValueError("a bad file")) == "a bad file"


def test_what_is_translated_exists_on_both_sides():
    assert set(_SETTINGS) <= {field.name for field in fields(ModelConfig)}
    assert set(_SETTINGS.values()) <= set(Settings.model_fields)

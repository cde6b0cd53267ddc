"""Sampling parameters over HTTP: every published form, what is refused, defaults, and that real
kernels do what was asked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from gguf import GGUFValueType

from slotmux.runtime.engine.request import SAMPLERS, SamplingParams
from slotmux.runtime.gguf.metadata import Metadata
from slotmux.runtime.gguf.values import Entry
from slotmux.runtime.sampling.params import NUMBERS
from slotmux.server.answers.breakers import BreakerFinder
from slotmux.server.answers.sampling import SamplingDefaults
from slotmux.server.loading.sampling import sampling_defaults
from slotmux.server.settings import SettingsError, load_settings
from tests.numbers import inside, outside
from tests.reference.samplers import tokens_of, words_of
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import ByteTokenizer, RunningServer, running
from tests.server.tiny_model import serving_model


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(FakeEngine()) as server:
        yield server


def ask(server: RunningServer, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/completions", json={"prompt": "x", **body}, timeout=60)


def sampled(server: RunningServer, **body: Any) -> SamplingParams:
    answer = ask(server, **body)
    assert answer.status_code == 200, answer.text
    params: SamplingParams = server.engine.submitted[-1].sampling
    return params


def test_plain_numbers_reach_the_engine(server):
    given = {name: inside(name) for name in NUMBERS} | {"seed": 4}
    got = sampled(server, **given)
    assert {name: getattr(got, name) for name in given} == given
    for name, number in NUMBERS.items():
        for alias, _ in number.told.aliases:
            assert getattr(sampled(server, **{alias: inside(name)}), name) == inside(name)


@pytest.mark.parametrize(
    ("form", "names"),
    [
        (["top_k", "temperature"], ("top_k", "temperature")),
        (["top-k", "typical_p", "temp", "nucleus"], ("top_k", "typ_p", "temperature", "top_p")),
        ("kt", ("top_k", "temperature")),
        ("edskypmxt", SAMPLERS),
        ("penalties;top_p;temperature", ("penalties", "top_p", "temperature")),
        ("top_k", ("top_k",)),
        ([], ()),
        ("", ()),
    ],
)
def test_samplers_in_every_form(server, form, names):
    assert sampled(server, samplers=form).samplers == names


@pytest.mark.parametrize(
    ("form", "pairs"),
    [
        ({"65": 2, "66": -100}, ((65, 2.0), (66, -100.0))),
        ([[65, 0.5], [66, False]], ((65, 0.5), (66, -math.inf))),
        ([["AB", 1.5]], ((65, 1.5), (66, 1.5))),
        ({"AB": False, "67": 1}, ((65, -math.inf), (66, -math.inf), (67, 1.0))),
        ([["67", 1]], ((54, 1.0), (55, 1.0))),
        (None, ()),
    ],
)
def test_logit_bias_in_every_form(server, form, pairs):
    assert sampled(server, logit_bias=form).logit_bias == pairs


def test_words_become_tokens(server):
    got = sampled(server, bad_words=["no", " way"], allowed_token_ids=[1, 5, 5])
    assert words_of(got.bad_words) == sorted(
        [*map(list, (b" no", b" way")), list(b"no"), list(b"way")]
    )
    assert tokens_of(got.allowed) == {1, 5}
    plain = sampled(server, bad_words=[], allowed_token_ids=None)
    assert (plain.bad_words, plain.allowed, plain.dry_breakers) == (None, None, None)


def test_breakers_are_the_servers_or_the_requests(server):
    got = sampled(server, dry_multiplier=1)
    assert tokens_of(got.dry_breakers.single) == set(b'\n:"*')
    for form in (["ab", "c"], '["ab", "c"]'):
        got = sampled(server, dry_multiplier=1, dry_sequence_breakers=form)
        assert tokens_of(got.dry_breakers.single) == set(b"c")
        assert words_of(got.dry_breakers.several) == [list(b"ab")]
        assert tokens_of(got.dry_breakers.first) == set(b"ac")
    again = sampled(server, dry_multiplier=1, dry_sequence_breakers=["ab", "c"])
    assert again.dry_breakers is got.dry_breakers, "it was looked for again"


class WordTokenizer(ByteTokenizer):
    """Tokens that overlap with breakers in all ways; text is cut into letters."""

    pieces = (b"a", b"b", b"c", b"ab", b"xa", b"xab", b"bc", b"xaby", b"", b"ba")
    n_vocab = len(pieces)

    def token_bytes(self, token_id, *, skip_special=False):
        return self.pieces[token_id]

    def encode(self, text, *, add_special=True, parse_special=False, max_tokens=None):
        return [b"abc".index(byte) for byte in text.encode()]


def test_breakers_of_a_vocabulary_with_longer_tokens():
    found = BreakerFinder(WordTokenizer()).find(("ab",))
    assert tokens_of(found.single) == {3, 5, 7}
    # "a", "xa" and "ba" end in its beginning; "b" follows.
    assert words_of(found.several) == [[0, 1], [4, 1], [9, 1]]
    assert tokens_of(found.first) == {0, 3, 4, 5, 7, 9}
    # Three letters: "xa" then b c, "xab" and "ab" then c.
    found = BreakerFinder(WordTokenizer()).find(("abc",))
    assert tokens_of(found.single) == set()
    assert [0, 1, 2] in words_of(found.several)
    assert [5, 2] in words_of(found.several)


def test_a_dry_base_below_one_is_the_default(server):
    assert sampled(server, dry_base=0).dry_base == 1.75


def test_a_seed_of_minus_one_is_random(server):
    seeds = {sampled(server, seed=-1).seed for _ in range(4)} | {sampled(server).seed}
    assert len(seeds) == 5
    assert {sampled(server, seed=7).seed for _ in range(3)} == {7}


REFUSED: dict[str, list[Any]] = {
    **{name: outside(name) for name in NUMBERS},
    "dry_sequence_breakers": [[""], ["x" * 41], ["a"] * 33, "a", [1]],
    "samplers": [["nonsense"], "z", ["top_k"] * 16, [1], 5, {}],
    "logit_bias": [{"999": 1}, [[999, 1]], [[1]], [[1, 2, 3]], [[1, True]], [["", 1]], [[-1, 1]],
                   {"1": "a"}, [["a" * 300, 1]], "x", [["a" * 250, 1]] * 80],
    "allowed_token_ids": [[], [257], [-1], ["a"], "x", [True]],
    "bad_words": [[""], ["a" * 300], ["a"] * 1025, [1], "x", ["a" * 200] * 100],
}  # fmt: skip


@pytest.mark.parametrize("field", REFUSED)
def test_what_is_out_of_range_is_refused_by_name(server, field):
    for value in REFUSED[field]:
        answer = ask(server, **{field: value})
        assert answer.status_code == 400, (value, answer.text)
        assert answer.json()["error"]["param"].startswith(field)


# -- defaults


def metadata_of(**values: Any) -> Metadata:
    types = {int: GGUFValueType.INT32, float: GGUFValueType.FLOAT32, str: GGUFValueType.STRING}
    return Metadata(
        {
            f"general.sampling.{name}": Entry(types[type(value)], value, 0)
            for name, value in values.items()
        }
    )


def test_request_then_flag_then_file_then_llama_server():
    nothing = sampling_defaults(load_settings(), metadata_of())
    assert nothing == SamplingDefaults()
    assert nothing.params == SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05)
    file = metadata_of(temp=np.float32(0.6).item(), top_k=20, penalty_repeat=1.0, penalty_last_n=9,
                       sequence="top_k;temperature", mirostat=0)  # fmt: skip
    of_file = sampling_defaults(load_settings(), file).params
    assert (of_file.temperature, of_file.top_k, of_file.top_p) == (0.6, 20, 0.95)
    assert (of_file.repeat_last_n, of_file.samplers) == (9, ("top_k", "temperature"))
    settings = load_settings(temp=1.5, seed=3, samplers="kpt", mirostat_lr=0.5)
    both = sampling_defaults(settings, file)
    assert (both.params.temperature, both.params.top_k, both.seed) == (1.5, 20, 3)
    assert both.params.samplers == ("top_k", "top_p", "temperature")
    assert both.params.mirostat_eta == 0.5
    assert sampling_defaults(load_settings(top_k=-1), file).params.top_k == 0


@pytest.mark.parametrize("name", NUMBERS)
def test_flags_and_keys_of_a_file_are_defaults_of_the_number(name):
    told = NUMBERS[name].told
    if told.flag is not None:
        flags = load_settings(**{told.setting or name: inside(name)})
        assert getattr(sampling_defaults(flags, metadata_of()).params, name) == inside(name)
    if told.key:
        file = metadata_of(**{told.key: inside(name)})
        assert getattr(sampling_defaults(load_settings(), file).params, name) == inside(name)


def test_a_file_that_recommends_nonsense_is_served_all_the_same():
    file = metadata_of(temp=-3.0, top_k="many", top_p=0.5, sequence="a;b", min_p=math.nan)
    found = sampling_defaults(load_settings(), file).params
    assert found == SamplingParams(temperature=0.8, top_k=40, top_p=0.5, min_p=0.05)
    assert len(file.warnings) == 4


def test_flags_out_of_range_are_named():
    for flags in ({"temp": -1.0}, {"samplers": "top_k;nonsense"}, {"mirostat": 3}):
        with pytest.raises(SettingsError, match=f"--{next(iter(flags))}"):
            load_settings(**flags)


def test_props_tell_the_defaults(server):
    params = httpx.get(f"{server.url}/props").json()["default_generation_settings"]["params"]
    assert (params["temperature"], params["top_k"], params["min_p"]) == (0.8, 40, 0.05)
    assert params["samplers"] == list(SAMPLERS)
    assert params["dry_sequence_breakers"] == ["\n", ":", '"', "*"]
    assert params["seed"] == -1
    assert not {"logit_bias", "dry_breakers", "allowed", "bad_words"} & set(params)


# -- on real kernels


@pytest.fixture(scope="module")
def real(tiny_model_path, kernel_cache_dir) -> Iterator[RunningServer]:
    with serving_model(tiny_model_path("llama"), kernel_cache_dir) as server:
        yield server


def tokens(server: RunningServer, **body: Any) -> list[int]:
    body = {"prompt": "the the the", "max_tokens": 40, "return_token_ids": True, "seed": 3,
            "ignore_eos": True, **body}  # fmt: skip
    answer = ask(server, **body)
    assert answer.status_code == 200, answer.text
    ids: list[int] = answer.json()["choices"][0]["token_ids"]
    return ids


def test_only_allowed_tokens_are_drawn(real):
    assert set(tokens(real, allowed_token_ids=[7, 8, 9], temperature=2)) <= {7, 8, 9}


def test_banned_tokens_are_not_drawn(real):
    free = tokens(real, temperature=0)
    banned = tokens(real, temperature=0, logit_bias=[[free[0], False]])
    assert free[0] not in banned


def test_dry_ends_a_loop(real):
    body = {"temperature": 0, "logit_bias": {"5": 90, "6": 70}, "max_tokens": 30}
    assert tokens(real, **body) == [5] * 30
    dry = tokens(real, **body, dry_multiplier=3, dry_allowed_length=1, dry_sequence_breakers=[])
    assert len(set(dry)) > 1


def test_samplers_that_are_not_named_are_off(real):
    greedy = tokens(real, temperature=0)
    assert tokens(real, top_k=1, temperature=5) == greedy
    assert tokens(real, top_k=1, temperature=5, samplers=["top_k"]) == greedy
    assert tokens(real, top_k=1, temperature=5, samplers="t") != greedy


def test_mirostat_answers_alike_again(real):
    for version in (1, 2):
        first = tokens(real, mirostat=version, mirostat_tau=3)
        assert tokens(real, mirostat=version, mirostat_tau=3, cache_prompt=False) == first
        assert tokens(real, mirostat=version, mirostat_tau=1) != first

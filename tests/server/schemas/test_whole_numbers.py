"""64.0 is a whole number, as languages without integers write it: in lists of ids, too."""

from __future__ import annotations

import math
from typing import Any

import pytest

from slotmux.server.dialects.llama.prompts import read_prompts
from slotmux.server.http.errors import ApiError
from slotmux.server.schemas.base import validate
from slotmux.server.schemas.completion import CompletionRequest
from slotmux.server.schemas.text import DetokenizeRequest


def completion(**body: Any) -> CompletionRequest:
    return validate(CompletionRequest, {"prompt": "x"} | body)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [([1.0, 2], [[1, 2]]), ([[1.0], [2, 3.0]], [[1], [2, 3]]), (["a", [1.0]], ["a", [1]])],
)
def test_prompts(sent, kept):
    found = completion(prompt=sent).prompt
    assert found == kept
    assert all(type(i) is int for ids in found if isinstance(ids, list) for i in ids)


def test_ids_of_parameters():
    found = completion(stop_token_ids=[3.0], allowed_token_ids=[3.0, 4], logit_bias=[[5.0, 1]])
    assert found.stop_token_ids == [3]
    assert found.allowed_token_ids == [3, 4]
    assert found.logit_bias == ((5, 1.0),)
    assert type(found.logit_bias[0][0]) is int
    assert validate(DetokenizeRequest, {"tokens": [5.0, 6]}).tokens == [5, 6]


def test_prompts_of_llama_server():
    assert read_prompts([1.0, "a", 2]) == ([[1, "a", 2]], False)
    assert read_prompts([["a", 3.0], "b"]) == ([["a", 3], ["b"]], True)


@pytest.mark.parametrize("wrong", [1.5, -1.0, math.inf, math.nan, True, "1"])
@pytest.mark.parametrize("name", ["prompt", "stop_token_ids", "allowed_token_ids"])
def test_others_are_none(name, wrong):
    with pytest.raises(ApiError) as info:
        completion(**{name: [3, wrong]})
    assert info.value.param.startswith(name)


def test_the_whole_vocabulary_is_refused_with_the_limit():
    with pytest.raises(ApiError) as info:
        completion(prompt_logprobs=-1)
    assert "at most 20" in info.value.message
    assert info.value.param == "prompt_logprobs"

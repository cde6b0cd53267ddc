"""The dialects' own clients, from PyPI, against a real server around a fake engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import running

TEXT = "Hello wörld."
USER = [{"role": "user", "content": "x"}]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(FakeEngine(), api_key=("k",)) as server:
        yield server.url


def test_anthropic(url):
    anthropic = pytest.importorskip("anthropic")
    client = anthropic.Anthropic(base_url=url, api_key="k", max_retries=0)
    message = client.messages.create(model="fake", max_tokens=64, messages=USER)
    assert message.content[0].text == TEXT
    assert message.stop_reason == "end_turn"
    with client.messages.stream(model="fake", max_tokens=64, messages=USER) as stream:
        assert "".join(stream.text_stream) == TEXT
        assert stream.get_final_message().usage.output_tokens == len(TEXT.encode())
    assert client.messages.count_tokens(model="fake", messages=USER).input_tokens == 7
    assert [model.id for model in client.models.list()] == ["fake"]
    assert client.models.retrieve("fake").display_name == "fake"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="claude", max_tokens=64, messages=USER)
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        client.messages.create(
            model="fake", max_tokens=64, messages=USER, extra_body={"temperature": 101}
        )
    with pytest.raises(anthropic.AuthenticationError):
        anthropic.Anthropic(base_url=url, api_key="z").messages.create(
            model="fake", max_tokens=64, messages=USER
        )


def test_ollama(url):
    ollama = pytest.importorskip("ollama")
    client = ollama.Client(url, headers={"authorization": "Bearer k"})
    assert client.chat("fake", USER).message.content == TEXT
    assert "".join(p.message.content for p in client.chat("fake", USER, stream=True)) == TEXT
    assert client.generate("fake", "x").response == TEXT
    assert "".join(p.response for p in client.generate("fake", "x", stream=True)) == TEXT
    assert client.chat("fake", USER, options={"num_predict": 2}).done_reason == "length"
    assert client.list().models[0].model == "fake"
    assert client.ps().models[0].model == "fake"
    assert client.show("fake").details.format == "gguf"
    assert len(client.embed("fake", ["x", "y"]).embeddings) == 2
    for call in (lambda: client.chat("llama3", USER), lambda: client.embed("llama3", "x")):
        with pytest.raises(ollama.ResponseError) as caught:
            call()
        assert caught.value.status_code in (404, 501)

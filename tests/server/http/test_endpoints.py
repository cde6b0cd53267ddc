"""Endpoints: told once, beside the handler, and found by path."""

from __future__ import annotations

import pytest
from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.http.app import create_app
from slotmux.server.http.auth import BySetting, access_by
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.paths import Paths
from slotmux.server.http.shapes import anthropic_body, llama_body, ollama_body, openai_body
from slotmux.server.openapi.operation import REFUSED, Operation
from slotmux.server.process.state import ServerState
from slotmux.server.settings import Settings
from tests.server.http.endpoints import paths, routes


async def handler(request: Request) -> Response:
    return Response()


def test_the_app_serves_what_was_told_and_nothing_else():
    """A route that is put on the app itself has no rule, no shape and no description."""
    served = []
    for route in create_app(ServerState(Settings())).routes:
        for inner in getattr(route, "routes", None) or getattr(
            getattr(route, "original_router", None), "routes", [route]
        ):
            served += [(method, inner.path) for method in sorted(inner.methods)]
    assert served == routes()
    assert len(served) == len(set(served)) > 50


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v1/chat/completions", openai_body), ("/chat/completions", openai_body),
        ("/v1/models/a/b", openai_body), ("/slots", openai_body), ("/props", openai_body),
        ("/v1/embeddings", openai_body), ("/v1/responses/x/cancel", openai_body),
        ("/", openai_body), ("/nope", openai_body), ("/api/nope", openai_body),
        ("/v1/messagesx", openai_body),
        ("/v1/messages", anthropic_body), ("/v1/messages/count_tokens", anthropic_body),
        ("/v1/messages/batches", anthropic_body),
        ("/completion", llama_body), ("/completions", llama_body), ("/infill", llama_body),
        ("/embeddings", llama_body), ("/rerank", llama_body), ("/lora-adapters", llama_body),
        ("/slots/3", llama_body), ("/slots/3/x", llama_body), ("/slots/", llama_body),
        ("/api/chat", ollama_body), ("/api/tags", ollama_body), ("/api/delete", ollama_body),
    ],
)  # fmt: skip
def test_errors_are_told_in_the_dialect_of_the_path(path, shape):
    assert paths().shape_of(path) is shape


def test_who_may_enter_goes_by_path_and_setting():
    found = paths()
    assert found.rule("/health") == "public"
    assert found.rule("/v1/completions") == found.rule("/nope") == "key"
    for access in ("key", "public", "off"):
        settings = Settings(metrics=access, slots=access, props=access)
        for path in ("/metrics", "/slots", "/props"):
            assert access_by(found.rule(path), settings) == access
        assert access_by(found.rule("/debug/prefix"), settings) == "key"


def test_a_rule_names_a_setting_that_there_is():
    assert BySetting("slots").flag == "--slots"
    with pytest.raises(AssertionError, match="slotz"):
        BySetting("slotz")


def test_an_endpoint_says_what_it_takes_and_gives():
    with pytest.raises(TypeError, match="told"):
        Endpoints().get("/x")


def test_a_decorator_serves_every_path_and_leaves_the_function():
    table = Endpoints(llama_body)
    assert table.add(["PUT", "HEAD"], "/a", "/b", told=REFUSED)(handler) is handler
    table.post("/a", told=Operation(), shape=llama_body)(handler)
    assert [(each.path, each.methods) for each in table.all] == [
        ("/a", ["HEAD", "PUT"]), ("/b", ["HEAD", "PUT"]), ("/a", ["POST"]),
    ]  # fmt: skip
    assert {each.shape for each in table.all} == {llama_body}
    assert Paths([table]).methods("/a") == ["HEAD", "POST", "PUT"]


@pytest.mark.parametrize("other", [{"rule": "public"}, {"shape": ollama_body}])
def test_one_path_has_one_rule_and_one_shape(other):
    table = Endpoints()
    table.get("/x", told=REFUSED)(handler)
    table.post("/x", told=REFUSED, **other)(handler)
    with pytest.raises(AssertionError, match="/x"):
        Paths([table])


def test_a_path_with_variables_wants_a_key():
    table = Endpoints()
    table.get("/x/{name}", told=REFUSED, rule="public")(handler)
    with pytest.raises(AssertionError, match="whole path"):
        Paths([table])

"""What each route takes and gives: the table that /openapi.json is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slotmux.server.openapi import answers
from slotmux.server.schemas.base import StrictModel
from slotmux.server.schemas.chat import ChatRequest, TemplateParams
from slotmux.server.schemas.completion import CompletionRequest
from slotmux.server.schemas.text import DetokenizeRequest, TokenizeRequest

TEXT = "text/plain"
HTML = "text/html"
_Type = Any  # whatever pydantic makes a schema of


@dataclass(frozen=True, slots=True)
class Operation:
    """A route and a method. ``answer``: the type of its JSON; None: it is a text of ``media``.
    ``chunk``: of an event's data, where the answer may be streamed."""

    answer: _Type = None
    body: type[StrictModel] | None = None
    chunk: _Type = None
    error: _Type = answers.ErrorAnswer
    media: str = "application/json"
    query: Mapping[str, dict[str, Any]] = field(default_factory=dict)  # names and their schemas
    has_body: bool = True  # False: HEAD


_PROBE = {"GET": Operation(answers.Status), "HEAD": Operation(has_body=False)}
_FAIL_ON_NO_SLOT = {"fail_on_no_slot": {"enum": ["0", "1"], "default": "0"}}

# By path, then by method. A test fails when a route is missing.
OPERATIONS: Mapping[str, Mapping[str, Operation]] = {
    "/v1/chat/completions": {
        "POST": Operation(answers.ChatCompletion, ChatRequest, answers.ChatChunk)
    },
    "/v1/completions": {
        "POST": Operation(answers.Completion, CompletionRequest, answers.Completion)
    },
    "/v1/models": {"GET": Operation(answers.ModelList)},
    "/v1/models/{model_id:path}": {"GET": Operation(answers.ModelEntry)},
    "/apply-template": {"POST": Operation(answers.Prompt, TemplateParams)},
    "/tokenize": {"POST": Operation(answers.Tokens, TokenizeRequest)},
    "/detokenize": {"POST": Operation(answers.Content, DetokenizeRequest)},
    "/version": {"GET": Operation(answers.Version)},
    "/health": _PROBE,
    "/livez": _PROBE,
    "/readyz": _PROBE,
    "/slots": {"GET": Operation(list[answers.SlotEntry], query=_FAIL_ON_NO_SLOT)},
    "/props": {"GET": Operation(answers.Props)},
    "/metrics": {"GET": Operation(media=TEXT)},
    "/openapi.json": {"GET": Operation(dict[str, Any])},
    "/docs": {"GET": Operation(media=HTML)},
}

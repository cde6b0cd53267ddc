"""The table that /openapi.json is made from: every route, what it takes and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slotmux.server.http.shapes import Shape, anthropic_body, llama_body, ollama_body, openai_body
from slotmux.server.openapi import answers
from slotmux.server.openapi.anthropic import ANTHROPIC
from slotmux.server.openapi.llama import LLAMA
from slotmux.server.openapi.ollama import OLLAMA
from slotmux.server.openapi.operation import REFUSED, Operation, Type
from slotmux.server.openapi.operators import PrefixCache
from slotmux.server.openapi.responses import RESPONSES
from slotmux.server.schemas.chat import ChatRequest
from slotmux.server.schemas.completion import CompletionRequest
from slotmux.server.schemas.text import DetokenizeRequest, TokenizeRequest

_PROBE = {"GET": Operation(answers.Status), "HEAD": Operation(has_content=False)}
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
    "/apply-template": {"POST": Operation(answers.Prompt, ChatRequest)},
    "/tokenize": {"POST": Operation(answers.Tokens, TokenizeRequest)},
    "/detokenize": {"POST": Operation(answers.Content, DetokenizeRequest)},
    "/version": {"GET": Operation(answers.Version)},
    "/health": _PROBE,
    "/livez": _PROBE,
    "/readyz": _PROBE,
    "/slots": {"GET": Operation(list[answers.SlotEntry], query=_FAIL_ON_NO_SLOT)},
    "/props": {"GET": Operation(answers.Props), "POST": REFUSED},
    "/debug/prefix": {"GET": Operation(PrefixCache)},
    "/metrics": {"GET": Operation(media="text/plain")},
    "/openapi.json": {"GET": Operation(dict[str, Any])},
    "/docs": {"GET": Operation(media="text/html")},
    **LLAMA,
    **ANTHROPIC,
    **OLLAMA,
    **RESPONSES,
}
# How each dialect tells what is wrong.
ERRORS: Mapping[Shape, Type] = {
    openai_body: answers.ErrorAnswer,
    llama_body: answers.LlamaError,
    anthropic_body: answers.AnthropicError,
    ollama_body: answers.OllamaError,
}

"""A small OpenAI-compatible server in process: well behaved, or mixing its clients up at will."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

HOLD_S = 0.07  # longer than requests of a crowd are staggered, so that they overlap


@dataclass
class FakeServer:
    """Answers with the last word of a prompt and words drawn from its hash. The ``bleeds_*`` flags
    each break one promise, and only while several requests are in flight."""

    bleeds_words: bool = False  # an answer holds another request's words
    bleeds_text: bool = False  # an answer is another one in a crowd
    bleeds_logprobs: bool = False  # a crowd moves the logprobs, not the text
    has_logprobs: bool = True
    chats: bool = True
    api_key: str = ""
    n_busy_answers: int = 0  # so many requests are first answered 429
    in_flight: list[str] = field(default_factory=list)
    n_served: int = 0

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/completions", self._completion, methods=["POST"]),
            ]
        )

    async def _models(self, request: Request) -> JSONResponse:
        if self.api_key and request.headers.get("authorization") != f"Bearer {self.api_key}":
            return _error(401, "wrong key")
        return JSONResponse({"object": "list", "data": [{"id": "fake-1", "object": "model"}]})

    async def _chat(self, request: Request) -> JSONResponse:
        body = await request.json()
        if not self.chats:
            return _error(400, "this model has no chat template")
        return await self._answer(body, body["messages"][-1]["content"], is_chat=True)

    async def _completion(self, request: Request) -> JSONResponse:
        body = await request.json()
        return await self._answer(body, body["prompt"], is_chat=False)

    async def _answer(self, body: dict[str, Any], prompt: str, is_chat: bool) -> JSONResponse:
        assert body["model"] == "fake-1"
        assert body["temperature"] == 0
        if body.get("logprobs") and not self.has_logprobs:
            return _error(400, "logprobs are not supported")
        if self.n_busy_answers:
            self.n_busy_answers -= 1
            return JSONResponse({"error": {"message": "busy"}}, 429, {"Retry-After": "0"})
        self.in_flight.append(prompt)
        await asyncio.sleep(HOLD_S)
        words = self._words(prompt)
        shift = 1e-6 if self.bleeds_logprobs and len(self.in_flight) > 1 else 0.0
        self.in_flight.remove(prompt)
        self.n_served += 1
        logprobs = [(word, -0.5 - i / 7 + shift) for i, word in enumerate(words)]
        return JSONResponse({"choices": [_choice(logprobs, bool(body.get("logprobs")), is_chat)]})

    def _words(self, prompt: str) -> list[str]:
        strangers = [other for other in self.in_flight if other != prompt]
        words = prompt.rstrip(".").split()[-4:]
        digest = hashlib.sha256(prompt.encode()).hexdigest()
        words += [digest[:6], digest[6:12]]
        if self.bleeds_words and strangers:
            words += strangers[0].rstrip(".").split()[-4:]
        if self.bleeds_text and len(self.in_flight) > 1:
            words[-1] += str(self.n_served % 2)
        return words


def _choice(
    logprobs: list[tuple[str, float]], wants_logprobs: bool, is_chat: bool
) -> dict[str, Any]:
    text = " ".join(word for word, _ in logprobs)
    choice: dict[str, Any] = {"index": 0, "finish_reason": "length"}
    if is_chat:
        choice["message"] = {"role": "assistant", "content": text}
        content = [{"token": word, "logprob": value} for word, value in logprobs]
        choice["logprobs"] = {"content": content} if wants_logprobs else None
    else:
        choice["text"] = text
        tokens = [word for word, _ in logprobs]
        values = [value for _, value in logprobs]
        choice["logprobs"] = (
            {"tokens": tokens, "token_logprobs": values} if wants_logprobs else None
        )
    return choice


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "invalid_request_error"}}, status)

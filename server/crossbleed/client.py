"""Asks any OpenAI-compatible server one question at a time; knows nothing of the checks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx

MAX_TRIES = 8  # of one request that is answered 429 or 503


class ServerRefusedError(Exception):
    """The server did not answer a request as OpenAI's would; status 0: it was not reached."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request got. ``logprobs`` holds (token, logprob) pairs, None where not asked for."""

    text: str
    finish_reason: str
    logprobs: tuple[tuple[str, float], ...] | None


@dataclass(frozen=True, slots=True)
class Question:
    """One greedy request; equal questions must get equal answers."""

    prompt: str
    max_tokens: int = 32


class Client:
    """Requests to one model of one server. ``probe`` finds out what the server accepts."""

    def __init__(self, http: httpx.AsyncClient, model: str = "") -> None:
        self._http = http
        self.model = model
        self.uses_chat = True
        self.has_logprobs = True

    async def probe(self) -> None:
        """Learn the model's name, whether it chats and whether it gives logprobs. Raises
        ServerRefusedError when not even a plain completion is answered."""
        if not self.model:
            self.model = await self._first_model()
        for self.uses_chat, self.has_logprobs in (
            (True, True),
            (True, False),
            (False, True),
            (False, False),
        ):
            try:
                answer = await self.ask(Question("Say hello.", max_tokens=2))
            except ServerRefusedError as error:
                refusal = error
                if error.status in (0, 401, 403, 429) or error.status >= 500:
                    raise
                continue
            self.has_logprobs = bool(answer.logprobs)  # some servers ignore what they lack
            return
        raise refusal

    async def ask(self, question: Question) -> Answer:
        """Send one request, again where the server is busy. Raises ServerRefusedError."""
        path = "chat/completions" if self.uses_chat else "completions"
        for attempt in range(MAX_TRIES):
            response = await self._send("POST", path, self._body(question))
            if response.status_code not in (429, 503) or attempt == MAX_TRIES - 1:
                break
            await asyncio.sleep(_retry_after(response))
        return self._parse(_json_of(response))

    async def _first_model(self) -> str:
        listing = _json_of(await self._send("GET", "models", None))
        try:
            return str(listing["data"][0]["id"])
        except (KeyError, IndexError, TypeError) as error:
            raise ServerRefusedError(200, "GET models lists no model; name one") from error

    async def _send(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        try:
            return await self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ServerRefusedError(0, f"{method} {path}: {reason}") from error

    def _body(self, question: Question) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "temperature": 0,
            "seed": 1,
            "max_tokens": question.max_tokens,
        }
        if self.uses_chat:
            body["messages"] = [{"role": "user", "content": question.prompt}]
        else:
            body["prompt"] = question.prompt
        if self.has_logprobs:
            body["logprobs"] = True if self.uses_chat else 1
        return body

    def _parse(self, reply: dict[str, Any]) -> Answer:
        try:
            choice = reply["choices"][0]
            text = choice["message"]["content"] if self.uses_chat else choice["text"]
            logprobs = _logprobs_of(choice) if self.has_logprobs else None
            return Answer(text or "", str(choice.get("finish_reason")), logprobs)
        except (KeyError, IndexError, TypeError) as error:
            raise ServerRefusedError(200, f"an answer without {error}") from error


def _logprobs_of(choice: dict[str, Any]) -> tuple[tuple[str, float], ...] | None:
    """The pairs of a choice in either of OpenAI's two shapes; None where there are none."""
    logprobs = choice.get("logprobs")
    if not logprobs:
        return None
    if logprobs.get("content") is not None:
        return tuple((entry["token"], entry["logprob"]) for entry in logprobs["content"])
    if logprobs.get("tokens") is not None:
        return tuple(zip(logprobs["tokens"], logprobs["token_logprobs"], strict=True))
    return None


def _json_of(response: httpx.Response) -> dict[str, Any]:
    if response.status_code != 200:
        raise ServerRefusedError(
            response.status_code, f"{response.request.url.path}: {_error_message(response)}"
        )
    try:
        body = response.json()
    except ValueError as error:
        raise ServerRefusedError(200, f"{response.request.url.path}: not JSON") from error
    if not isinstance(body, dict):
        raise ServerRefusedError(200, f"{response.request.url.path}: not a JSON object")
    return body


def _error_message(response: httpx.Response) -> str:
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text[:200]
    return f"HTTP {response.status_code}: {message}"


def _retry_after(response: httpx.Response) -> float:
    try:
        return min(max(float(response.headers.get("retry-after", "1")), 0.0), 60.0)
    except ValueError:  # an HTTP date
        return 1.0

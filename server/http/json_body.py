"""Reads a request body as strict JSON: bounded in bytes, time and depth. Knows no schema."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect, Request

from slotmux.server.http.errors import ApiError, invalid
from slotmux.server.settings import MAX_BODY_BYTES, MAX_JSON_CONTAINERS, MAX_JSON_DEPTH


async def read_json(request: Request, timeout_s: float) -> dict[str, Any]:
    """The body as an object. Raises ApiError (400, 408, 413, 415) or ClientDisconnect."""
    return parse_object(await read_body_bytes(request, timeout_s))


async def read_body_bytes(request: Request, timeout_s: float) -> bytes:
    """The body as it came. Raises ApiError (408, 413, 415) or ClientDisconnect."""
    check_headers(request)
    try:
        async with asyncio.timeout(timeout_s):
            return await _read(request)
    except TimeoutError:
        raise ApiError(
            408,
            "The body did not arrive in time.",
            code="body_timeout",
            headers={"Connection": "close"},
        ) from None


def check_headers(request: Request) -> None:
    """Refuses, before any byte of the body is read, what it could not be used for."""
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    if media_type.strip().lower() not in ("application/json", *_types_of_others(request)):
        raise ApiError(
            415, "The Content-Type must be application/json.", code="unsupported_media_type"
        )
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if charset not in ("", "utf-8", "utf8"):
        raise ApiError(415, "The body must be UTF-8.", code="unsupported_media_type")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ApiError(
            415, "A compressed body is not supported.", code="unsupported_content_encoding"
        )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > MAX_BODY_BYTES:
        raise too_large()


def _types_of_others(request: Request) -> tuple[str, ...]:
    """Types that programs send with JSON because nobody said so: none, and that of `curl -d`.

    Pages of other sites can send these without being asked first, so browsers have to say JSON.
    """
    is_browser = "origin" in request.headers or "sec-fetch-site" in request.headers
    return () if is_browser else ("", "application/x-www-form-urlencoded")


def too_large() -> ApiError:
    """413 for a body over the cap."""
    return ApiError(
        413,
        f"The body is larger than {MAX_BODY_BYTES} bytes.",
        code="body_too_large",
        headers={"Connection": "close"},
    )


def parse_object(body: bytes) -> dict[str, Any]:
    """Parses a JSON object; NaN, 1e999, lone surrogates, BOM and bad UTF-8 are refused."""
    if not body:
        raise invalid(None, "The body is empty; a JSON object is needed.", "invalid_json")
    check_shape(body)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # the decoder's own message may quote the body: only the place is passed on
        where = f"line {error.lineno}, column {error.colno}"
        raise invalid(None, f"The body is not valid JSON ({where}).", "invalid_json") from None
    if not isinstance(value, dict):
        raise invalid(None, "The body must be a JSON object.", "invalid_json")
    return value


def check_shape(body: bytes) -> None:
    """Refuses what nests too deep or holds too many arrays and objects, before it is parsed.

    Linear and without recursion: the parser would hold the GIL for a second on 8 MiB of "[],".
    """
    if body.count(b"[") + body.count(b"{") <= MAX_JSON_DEPTH:
        return
    opened = _brackets(body)
    if np.cumsum(opened, dtype=np.int32).max() > MAX_JSON_DEPTH:
        raise invalid(None, f"The JSON is nested deeper than {MAX_JSON_DEPTH}.", "json_too_deep")
    if np.count_nonzero(opened == 1) > MAX_JSON_CONTAINERS:
        raise invalid(
            None,
            f"The JSON holds more than {MAX_JSON_CONTAINERS} arrays and objects.",
            "json_too_large",
        )


def _brackets(body: bytes) -> NDArray[np.int8]:
    """For each byte 1 where a bracket opens outside strings, -1 where one closes, else 0."""
    if b"\\" in body:
        # pairs first, left to right, so that what remains before a quote does escape it
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    chars = np.frombuffer(body, np.uint8)
    outside = (np.cumsum(chars == ord('"'), dtype=np.uint8) & 1) == 0
    braces = chars | 0x20  # '[' and '{' become '{', ']' and '}' become '}'
    opened: NDArray[np.int8] = ((braces == ord("{")) & outside).astype(np.int8)
    opened -= (braces == ord("}")) & outside
    return opened


async def _read(request: Request) -> bytes:
    chunks: list[bytes] = []
    n_bytes = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        n_bytes += len(chunk)
        if n_bytes > MAX_BODY_BYTES:
            raise too_large()
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)

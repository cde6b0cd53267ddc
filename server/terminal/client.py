"""Asks a running server, slotmux or another that speaks OpenAI's API, over HTTP."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from slotmux.server.loading.errors import CommandError

# An answer may take its time to begin; a server that is there takes a connection at once.
_TIMEOUT = httpx.Timeout(None, connect=10.0)
_LOOK_TIMEOUT = httpx.Timeout(10.0)
_MAX_WAIT_S = 30.0  # until a request is sent again
_PATIENCE_S = 600.0  # for one that is answered 429 or 503 again and again
_HOST_AND_PORT = re.compile(r"(\[[0-9a-f:]+\]|[\w.-]+):\d{1,5}(/.*)?", re.I)


class RefusedError(CommandError):
    """A server's refusal, or that it was not reached (status 0). The message is for people."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is. ``api_key``: sent as a bearer token, if there is one."""

    url: str  # without /v1
    api_key: str = field(default="", repr=False)

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine, as far as the address tells."""
        host = httpx.URL(self.url).host
        return host in ("localhost", "::1") or host.startswith("127.")

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}


def is_address(text: str) -> bool:
    """Whether ``text`` is a URL or HOST:PORT rather than a model."""
    if text.startswith("hf:"):
        return False
    if text.startswith(("http://", "https://")):
        return "hf.co/" not in text and "huggingface.co/" not in text
    return text == "localhost" or _HOST_AND_PORT.fullmatch(text) is not None


def address_of(text: str, api_key: str = "") -> Address:
    """The server that a person names: a missing http:// is added, a /v1 at the end taken away."""
    url = text if "://" in text else f"http://{text}"
    return Address(url.rstrip("/").removesuffix("/v1").rstrip("/"), api_key)


def address_here(host: str, port: int, api_key: str = "") -> Address:
    """The server of this machine that listens on ``host`` and ``port``."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}.get(host, host)
    told = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return Address(f"http://{told}:{port}", api_key)


class Server:
    """A server's HTTP client. A context; every method raises RefusedError. ``on_wait`` is told why
    a request waits, once for each that does."""

    def __init__(self, address: Address, on_wait: Callable[[str], None] | None = None) -> None:
        self.address = address
        self._on_wait = on_wait or (lambda why: None)
        try:
            self._http = httpx.Client(
                base_url=f"{address.url}/",
                headers=address.headers,
                timeout=_TIMEOUT,
                # A proxy of the environment does not lead to this machine.
                trust_env=not address.is_here,
            )
        except (httpx.InvalidURL, UnicodeError) as error:
            raise RefusedError(0, f"{address.url} is no address: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def look(self, path: str) -> httpx.Response:
        """GET, answered 200, within seconds."""
        with self._told():
            answer = self._http.get(path, timeout=_LOOK_TIMEOUT)
        if answer.status_code != 200:
            raise self._refused(answer)
        return answer

    def look_json(self, path: str) -> Any:
        """The JSON of a GET."""
        answer = self.look(path)
        try:
            return answer.json()
        except ValueError as error:
            raise RefusedError(0, f"{self.address.url}/{path} is no JSON: {error}") from error

    def models(self) -> list[str]:
        """The names that requests may ask for; where several models are served, those in memory
        first. Waits while a server loads."""
        patience = _Patience(self._on_wait)
        while True:
            try:
                found = self.look_json("v1/models")
            except RefusedError as error:
                if error.status != 503 or patience.is_over:
                    raise
                patience.wait(1.0, str(error))
                continue
            listed = found.get("data") if isinstance(found, dict) else None
            entries = [entry for entry in listed or () if "id" in entry]
            return [str(entry["id"]) for entry in sorted(entries, key=_is_unloaded)]

    @contextlib.contextmanager
    def stream(self, path: str, body: dict[str, Any]) -> Iterator[Iterator[str]]:
        """POST; the data of each event that the server sends, until ``[DONE]``. Leaving early hangs
        up, which ends the work. A full or loading server is asked again when it says."""
        with self._told():
            response = self._opened(path, body)
            try:
                yield _events(response)
            finally:
                response.close()

    def _opened(self, path: str, body: dict[str, Any]) -> httpx.Response:
        patience = _Patience(self._on_wait)
        while True:
            request = self._http.build_request("POST", path, json=body)
            response = self._http.send(request, stream=True)
            if response.status_code == 200:
                return response
            wait = _retry_after(response)
            try:
                response.read()
            finally:
                response.close()
            if wait is None or patience.is_over:
                raise self._refused(response)
            patience.wait(wait, _reason(response))

    def _refused(self, answer: httpx.Response) -> RefusedError:
        hint = ""
        if answer.status_code in (401, 403):
            hint = " (--api-key)"
        return RefusedError(answer.status_code, f"{_reason(answer)}{hint}")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What httpx raises, as RefusedError."""
        try:
            yield
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
            raise RefusedError(0, f"cannot ask {self.address.url}: {why}") from error
        except (httpx.InvalidURL, httpx.HTTPError, UnicodeError) as error:
            raise RefusedError(0, f"cannot ask {self.address.url}: {error}") from error


class _Patience:
    """How long one request is sent again; ``on_wait`` is told why, once."""

    def __init__(self, on_wait: Callable[[str], None]) -> None:
        self._deadline = time.monotonic() + _PATIENCE_S
        self._on_wait = on_wait
        self._is_told = False

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self._deadline

    def wait(self, seconds: float, why: str) -> None:
        if not self._is_told:
            self._on_wait(why)
            self._is_told = True
        time.sleep(seconds)


def _is_unloaded(model: dict[str, Any]) -> bool:
    status = model.get("status")
    return isinstance(status, dict) and status.get("value") != "loaded"


def _events(response: httpx.Response) -> Iterator[str]:
    for line in response.iter_lines():
        if not line.startswith("data:"):
            continue  # a comment, or the name of an event
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        yield data


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds after which to ask again, None if that is no use."""
    if response.status_code not in (429, 503):
        return None
    try:
        return min(max(float(response.headers["retry-after"]), 0.1), _MAX_WAIT_S)
    except (KeyError, ValueError):
        return None


def _reason(answer: httpx.Response) -> str:
    """The message of an error body of any dialect, else its status."""
    status = f"{answer.status_code} {answer.reason_phrase}"
    try:
        body = answer.json()
    except ValueError:
        return f"the server answers {status}"
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return str(message) if message else f"the server answers {status}"

"""GET /: the page for browsers, with its script and style; a line of text for everybody else.

The files come from the package; what makes them is in server/webui.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import ApiError
from slotmux.server.http.shapes import NOT_SUPPORTED
from slotmux.server.openapi.operation import Operation
from slotmux.server.process.state import ServerState, state_of

endpoints = Endpoints()
_READ = ["GET", "HEAD"]
_HTML = "text/html; charset=utf-8"
# Nothing from elsewhere, no script or style in the markup, and no text that becomes markup: what a
# model wrote cannot run, even if the page had a hole.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file as it is sent. ``version``: of its content, as the page's addresses have it."""

    body: bytes
    zipped: bytes
    version: str


@cache
def page_file(name: str) -> PageFile:
    """One of the package's files of the page; reads and compresses it the first time."""
    body = (files("slotmux.server") / "assets" / "page" / name).read_bytes()
    return PageFile(body, gzip.compress(body, 9, mtime=0), hashlib.sha256(body).hexdigest()[:12])


@endpoints.add(_READ, "/", told=Operation(media="text/html", medias=("text/plain",)), rule="public")
async def root(request: Request) -> Response:
    """The page; to a client that does not ask for HTML, that something runs here."""
    state = state_of(request)
    if not (state.settings.webui and "text/html" in request.headers.get("accept", "")):
        # Ollama's command line looks for this before anything else.
        headers = {"Vary": "Accept"}
        return Response("slotmux is running", headers=headers, media_type="text/plain")
    headers = {"Content-Security-Policy": _POLICY, "Vary": "Accept, Accept-Encoding"}
    return await _answer(request, "index.html", _HTML, headers)


@endpoints.add(_READ, "/page/app.js", told=Operation(media="text/javascript"), rule="public")
async def script(request: Request) -> Response:
    """The page's script."""
    return await _answer(request, "app.js", "text/javascript; charset=utf-8")


@endpoints.add(_READ, "/page/style.css", told=Operation(media="text/css"), rule="public")
async def style(request: Request) -> Response:
    """The page's style."""
    return await _answer(request, "style.css", "text/css; charset=utf-8")


@endpoints.add(_READ, "/page/icon.svg", told=Operation(media="image/svg+xml"), rule="public")
async def icon(request: Request) -> Response:
    """The page's icon."""
    return await _answer(request, "icon.svg", "image/svg+xml")


async def _answer(
    request: Request, name: str, media: str, extra: dict[str, str] | None = None
) -> Response:
    """A file of the page, or 304. Raises ApiError 501 where the page is switched off."""
    state = state_of(request)
    _check_on(state)
    file = await state.off_loop(page_file, name)
    is_named = request.query_params.get("v") == file.version
    headers = {
        "ETag": f'W/"{file.version}"',
        "Cache-Control": _FOREVER if is_named else "no-cache",
        "Vary": "Accept-Encoding",
        **_HEADERS,
        **(extra or {}),
    }
    if file.version in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    body = file.body
    if _takes_gzip(request.headers):
        body = file.zipped
        headers["Content-Encoding"] = "gzip"
    return Response(body, headers=headers, media_type=media)


def _check_on(state: ServerState) -> None:
    if not state.settings.webui:
        message = "The page is switched off (--no-webui)."
        raise ApiError(501, message, code="endpoint_off", type=NOT_SUPPORTED)


def _takes_gzip(headers: Headers) -> bool:
    """Whether a client said so, and not by q=0."""
    for coding in headers.get("accept-encoding", "").split(","):
        name, _, quality = coding.partition(";")
        if name.strip().lower() == "gzip":
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False

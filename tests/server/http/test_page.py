"""The page at /: who gets it, what it may do, that it is what its source builds."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx
import pytest

from slotmux.server.settings import load_settings
from tests.conftest import ROOT
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import running

ASSETS = ROOT / "server" / "assets" / "page"
BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
FILES = {"/page/app.js": "app.js", "/page/style.css": "style.css", "/page/icon.svg": "icon.svg"}
MOST_BYTES = 300_000


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with running(FakeEngine()) as server, httpx.Client(base_url=server.url) as client:
        yield client


def test_browsers_get_the_page_and_others_what_they_had(http) -> None:
    page = http.get("/", headers=BROWSER)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text == (ASSETS / "index.html").read_text()
    for accept in ("*/*", "application/json", ""):
        answer = http.get("/", headers={"accept": accept})
        assert (answer.status_code, answer.text) == (200, "slotmux is running")
        assert answer.headers["vary"] == "Accept"
    assert http.head("/").status_code == 200
    assert http.head("/", headers=BROWSER).content == b""


def test_it_may_load_nothing_from_elsewhere_and_run_nothing_else(http) -> None:
    answer = http.get("/", headers=BROWSER)
    policy = dict(part.strip().partition(" ")[::2] for part in
                  answer.headers["content-security-policy"].split(";"))  # fmt: skip
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    for kind in ("script-src", "style-src", "img-src", "connect-src"):
        assert policy[kind] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert policy["trusted-types"] == "'none'"
    for path in ("/", *FILES):
        headers = http.get(path, headers=BROWSER).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(("path", "name"), FILES.items())
def test_files_are_kept_by_their_content(http, path, name) -> None:
    body = (ASSETS / name).read_bytes()
    version = hashlib.sha256(body).hexdigest()[:12]
    assert f"{path[1:]}?v={version}" in (ASSETS / "index.html").read_text()
    named = http.get(path, params={"v": version})
    assert named.content == body
    assert "immutable" in named.headers["cache-control"]
    for params in ({}, {"v": "older"}):
        answer = http.get(path, params=params)
        assert answer.headers["cache-control"] == "no-cache"
    again = http.get(path, headers={"if-none-match": named.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert http.get(path, headers={"if-none-match": '"other"'}).status_code == 200


def test_files_are_compressed_for_who_takes_it(http) -> None:
    with http.stream("GET", "/page/app.js", headers={"accept-encoding": "br, gzip;q=0.5"}) as sent:
        assert sent.headers["content-encoding"] == "gzip"
        assert gzip.decompress(b"".join(sent.iter_raw())) == (ASSETS / "app.js").read_bytes()
    for refused in ("", "br", "gzip;q=0", "gzip; q=0.0"):
        answer = http.get("/page/app.js", headers={"accept-encoding": refused})
        assert "content-encoding" not in answer.headers
        assert "Accept-Encoding" in answer.headers["vary"]


def test_it_is_there_from_the_first_moment() -> None:
    with running(None) as server:
        assert httpx.get(server.url, headers=BROWSER).status_code == 200
        assert httpx.get(f"{server.url}/page/app.js").status_code == 200
        assert httpx.get(f"{server.url}/board").status_code == 503


def test_it_can_be_switched_off() -> None:
    with running(FakeEngine(), webui=False) as server:
        assert httpx.get(server.url, headers=BROWSER).text == "slotmux is running"
        for path in FILES:
            answer = httpx.get(server.url + path)
            assert answer.status_code == 501
            assert answer.json()["error"]["code"] == "endpoint_off"
            assert "--no-webui" in answer.json()["error"]["message"]


def test_the_switch_is_a_variable_too(monkeypatch) -> None:
    assert load_settings().webui
    monkeypatch.setenv("SLOTMUX_WEBUI", "0")
    assert not load_settings().webui


class _Markup(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.addresses: list[str] = []
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name.startswith("on") or name == "style":
                self.faults.append(f"{tag} {name}")
            if name in ("src", "href", "action"):
                self.addresses.append(value or "")
        self._in_script = tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self.faults.append("inline script or style")


def test_the_document_has_no_inline_script_or_style_and_no_absolute_address() -> None:
    markup = _Markup()
    markup.feed((ASSETS / "index.html").read_text())
    assert markup.faults == []
    assert len(markup.addresses) > 4
    for address in markup.addresses:
        assert re.match(r"page/|#", address), "it may stand behind a prefix"


def test_the_bundle_is_small_and_names_no_other_place() -> None:
    assert sum((ASSETS / name).stat().st_size for name in ("index.html", *FILES.values())) < (
        MOST_BYTES
    )
    for name in ("index.html", *FILES.values()):
        text = (ASSETS / name).read_text()
        found = set(re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z][^\s\"'`)]*", text))
        # A namespace, and where marked wants its faults reported: nobody asks there.
        report = "https://github.com/markedjs/marked."
        assert found <= {"http://www.w3.org/2000/svg", report}, name
        assert "innerHTML" not in text, name
        assert "eval(" not in text, name


def test_the_bundle_is_what_the_source_builds(tmp_path) -> None:
    node, packages = shutil.which("node"), ROOT / ".cache" / "webui" / "node_modules"
    if node is None or not packages.is_dir():
        pytest.skip("node or its packages are not there (make webui)")
    build = [node, str(ROOT / "server/webui/build.mjs"), "--out", str(tmp_path)]
    subprocess.run(build, check=True, capture_output=True)
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (ASSETS / file.name).read_bytes(), f"{file.name}: make webui"
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in ASSETS.iterdir()}

"""Servers for the page, and node programs that drive it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.serving import serving
from tests.conftest import ROOT
from tests.server.fake_model import running
from tests.webui.echo import echo

HERE = Path(__file__).parent
PACKAGES = ROOT / ".cache" / "webui" / "node_modules"
Node = Callable[..., None]


@pytest.fixture(scope="session")
def pure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parts of the page that need no browser, built from its source."""
    folder = tmp_path_factory.mktemp("built")
    build = ["node", str(ROOT / "server/webui/build.mjs"), "--out", str(folder / "page")]
    subprocess.run([*build, "--module", str(folder / "pure.mjs")], check=True)
    return folder / "pure.mjs"


@pytest.fixture(scope="session")
def chromium() -> str:
    """Chromium's command, of $CHROMIUM or the first that is there."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("there is no chromium (apt install chromium, or $CHROMIUM)")
    return found


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Runs the tests of a file of this folder, with variables that tell it what there is."""

    def run(name: str, **variables: str) -> None:
        told = {"PACKAGES": str(PACKAGES), "SCRATCH": str(tmp_path)}
        if "SHOTS" in os.environ:
            told["SHOTS"] = os.environ["SHOTS"]
        done = subprocess.run(
            ["node", "--test", "--test-reporter=spec", str(HERE / name)],
            env=os.environ | told | variables,
            capture_output=True,
            text=True,
            timeout=600,
        )
        print(done.stdout)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.fixture(scope="session")
def echo_url() -> Iterator[str]:
    """A server whose model says what the user said."""
    with running(echo()) as server:
        yield server.url


@pytest.fixture(scope="session")
def slow_url() -> Iterator[str]:
    """The same, a hundred bytes a second."""
    with running(echo(step_s=0.01)) as server:
        yield server.url


@pytest.fixture(scope="session")
def keyed_url() -> Iterator[str]:
    """The same, for those who have the key sk-page."""
    with running(echo(), api_key=("sk-page",)) as server:
        yield server.url


@pytest.fixture(scope="session")
def demo_url() -> Iterator[str]:
    """The demo model as it is served: a hybrid that drafts."""
    with serving("demo", "--parallel", "8") as url:
        yield url

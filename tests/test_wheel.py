"""What an installer gets: one package, beside others that have our folders' names."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Hugging Face's package `kernels` and many a `server` stand at the top level of installations.
NEIGHBOURS = ("kernels", "server", "runtime", "deploy")
PAGE = tuple(
    f"server/assets/page/{name}"
    for name in ("index.html", "app.js", "style.css", "icon.svg", "LICENSES.txt")
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what the repository's build reads."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        [
            "git",
            "ls-files",
            "src",
            "server",
            "runtime",
            "kernels",
            "deploy",
            "pyproject.toml",
            "*.md",
            "LICENSE",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for name in listed:
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            target.symlink_to((ROOT / name).readlink())
        else:
            target.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*pip, "-w", str(out), str(source)], check=True, capture_output=True)
    (built,) = out.iterdir()
    return built


def test_a_wheel_holds_nothing_but_slotmux(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"slotmux"}
    for wanted in (
        "py.typed",
        "server/cli.py",
        "server/assets/demo.gguf",
        "kernels/team.py",
        *PAGE,
    ):
        assert f"slotmux/{wanted}" in names
    assert not [name for name in names if "webui" in name], "the page's source stays at home"
    modules = {
        p.relative_to(ROOT).as_posix() for top in NEIGHBOURS for p in (ROOT / top).rglob("*.py")
    }
    assert {f"slotmux/{module}" for module in modules} <= set(names)


def test_it_stands_beside_packages_of_the_same_names(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    for name in NEIGHBOURS:
        (site / name).mkdir()
        (site / name / "__init__.py").write_text("IS_SOMEBODY_ELSES = True\n")
    code = """
import sys
import kernels, runtime, server, slotmux
import slotmux.kernels.team, slotmux.runtime.model
from slotmux.server.cli import main
assert all(m.IS_SOMEBODY_ELSES for m in (kernels, runtime, server))
print(slotmux.__file__)
sys.argv[1:] = ["inspect", "demo"]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(str(site)), done.stderr
    assert "qwen35" in done.stdout, done.stderr

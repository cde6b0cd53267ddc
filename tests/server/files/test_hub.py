"""Model specs, against a local stand-in for the hub."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slotmux.server.files.default_model import DEFAULT_MODEL, demo_model
from slotmux.server.files.download import ModelSourceError
from slotmux.server.files.hub import Hub, resolve_model
from slotmux.server.files.hub_choice import choose_files
from tests.server.files.fake_hub import FakeHub, fake_hub

REPO = "user/tiny-GGUF"
ROOT = Path(__file__).parents[3]
Q4 = random.Random(4).randbytes(400_000)
Q8 = random.Random(8).randbytes(3_000)
FILES = {
    "README.md": b"# tiny",
    "mmproj-tiny-Q4_K_M.gguf": b"not a language model",
    "tiny-BF16/tiny-BF16-00001-of-00002.gguf": b"first half",
    "tiny-BF16/tiny-BF16-00002-of-00002.gguf": b"second half",
    "tiny-Q4_0_4_4.gguf": b"old",
    "tiny-q4_k_m.gguf": Q4,
    "tiny.Q8_0.gguf": Q8,
}


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with fake_hub() as hub:
        hub.repos[REPO] = dict(FILES)
        yield hub


class Steps:
    """A Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, int | None]] = []

    def __call__(self, label: str, n_done: int, n_total: int | None) -> None:
        self.told.append((label, n_done, n_total))


def local(remote: FakeHub, tmp_path: Path, token: str | None = None) -> Hub:
    return Hub(remote.endpoint, token, tmp_path / "cache", n_retries=2, retry_wait_s=0.01)


def partials(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache").rglob("*.incomplete"))


class TestPaths:
    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "m.gguf").write_bytes(b"x")
        assert resolve_model(str(tmp_path / "m.gguf")) == tmp_path / "m.gguf"

    def test_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "m.gguf").write_bytes(b"x")
        assert resolve_model("~/m.gguf") == tmp_path / "m.gguf"

    def test_missing(self) -> None:
        with pytest.raises(ModelSourceError, match=r"there is no file /no/such\.gguf$"):
            resolve_model("/no/such.gguf")

    def test_missing_but_like_a_repository(self) -> None:
        with pytest.raises(ModelSourceError, match="hf:user/repo:Q4_0 would be a repository"):
            resolve_model("user/repo:Q4_0")

    def test_default_model(self, tmp_path: Path) -> None:
        path = tmp_path / DEFAULT_MODEL.file_name
        path.touch()
        os.truncate(path, DEFAULT_MODEL.n_bytes)  # sparse: in place as far as its size tells
        assert resolve_model(None, models_dir=tmp_path) == path

    def test_demo_comes_with_the_package(self, tmp_path: Path) -> None:
        assert resolve_model("demo", models_dir=tmp_path) == demo_model()
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "spec",
        ["hf:", "hf:user", "hf:user/", "hf:/repo", "hf:a/b/c", "hf:../../etc", "hf:u/r:", "hf:u/..",
         "hf:u/r:Q4 K", "hf:u/r:../x", "hf:u/r\n", "hf:https://x/y", "hf:ü/r"],
    )  # fmt: skip
    def test_malformed(self, spec: str) -> None:
        with pytest.raises(ModelSourceError, match="is not of the form"):
            resolve_model(spec, hub=Hub("http://127.0.0.1:9"))


class TestDownload:
    def test_default_quant_and_progress(self, remote: FakeHub, tmp_path: Path) -> None:
        steps = Steps()
        path = resolve_model(f"hf:{REPO}", steps, hub=local(remote, tmp_path))
        assert path.name == "tiny-q4_k_m.gguf"
        assert path.read_bytes() == Q4
        assert steps.told[-1] == ("tiny-q4_k_m.gguf", len(Q4), len(Q4))
        done = [n_done for _, n_done, _ in steps.told]
        assert done == sorted(done)
        assert len(done) > 2
        assert len(remote.gets()) == 1
        assert not partials(tmp_path)

    def test_second_time_nothing_is_fetched(self, remote: FakeHub, tmp_path: Path) -> None:
        hub = local(remote, tmp_path)
        first = resolve_model(f"hf:{REPO}:q8_0", hub=hub)
        assert first.read_bytes() == Q8
        n_gets = len(remote.gets())
        assert resolve_model(f"hf:{REPO}:Q8_0", hub=hub) == first
        assert len(remote.gets()) == n_gets == 1

    def test_all_parts_of_a_split_model(self, remote: FakeHub, tmp_path: Path) -> None:
        path = resolve_model(f"hf:{REPO}:bf16", hub=local(remote, tmp_path))
        assert path.name == "tiny-BF16-00001-of-00002.gguf"
        assert path.read_bytes() == b"first half"
        other = path.with_name("tiny-BF16-00002-of-00002.gguf")
        assert other.read_bytes() == b"second half"

    def test_token_goes_to_the_hub_and_not_to_the_cdn(
        self, remote: FakeHub, tmp_path: Path
    ) -> None:
        remote.token = "hf_secret"
        resolve_model(f"hf:{REPO}:Q8_0", hub=local(remote, tmp_path, "hf_secret"))
        by_host = {seen.host: seen.authorization for seen in remote.seen}
        assert by_host == {"127.0.0.1": "Bearer hf_secret", "localhost": None}

    def test_environment_of_huggingface_hub(self, remote: FakeHub, tmp_path: Path) -> None:
        remote.token = "hf_secret"
        code = f"from slotmux.server.files import hub; print(hub.resolve_model('hf:{REPO}:Q8_0'))"
        names = {"HF_ENDPOINT": remote.endpoint, "HF_TOKEN": "hf_secret", "HF_HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, **names},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        path = Path(done.stdout.strip())
        assert path.is_relative_to(tmp_path)
        assert path.read_bytes() == Q8


class TestResume:
    def test_broken_connections(self, remote: FakeHub, tmp_path: Path) -> None:
        remote.break_after = [100_000, 0, 50_000]
        path = resolve_model(f"hf:{REPO}", hub=local(remote, tmp_path))
        assert path.read_bytes() == Q4
        ranges = [seen.range for seen in remote.gets()]
        assert ranges == [None, "bytes=100000-", "bytes=100000-", "bytes=150000-"]

    def test_giving_up_keeps_what_came(self, remote: FakeHub, tmp_path: Path) -> None:
        hub = local(remote, tmp_path)
        remote.break_after = [100_000, 0, 0, 0]
        with pytest.raises(ModelSourceError, match="stopped at byte 100000 of 400000"):
            resolve_model(f"hf:{REPO}", hub=hub)
        assert [path.stat().st_size for path in partials(tmp_path)] == [100_000]
        assert resolve_model(f"hf:{REPO}", hub=hub).read_bytes() == Q4
        assert remote.gets()[-1].range == "bytes=100000-"
        assert not partials(tmp_path)

    def test_a_killed_process(self, remote: FakeHub, tmp_path: Path) -> None:
        hub = local(remote, tmp_path)
        remote.stall = threading.Event()
        code = (
            "from pathlib import Path; from slotmux.server.files.hub import Hub, resolve_model;"
            f"hub = Hub({hub.endpoint!r}, None, Path({str(hub.cache_dir)!r}));"
            f"resolve_model('hf:{REPO}', hub=hub)"
        )
        child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
        try:
            deadline = time.monotonic() + 30
            while not any(path.stat().st_size > 100_000 for path in partials(tmp_path)):
                assert time.monotonic() < deadline
                assert child.poll() is None
                time.sleep(0.02)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        n_left = partials(tmp_path)[0].stat().st_size
        remote.stall.set()
        remote.stall = None
        assert resolve_model(f"hf:{REPO}", hub=hub).read_bytes() == Q4
        assert remote.gets()[-1].range == f"bytes={n_left}-"

    def test_a_server_that_ignores_ranges(self, remote: FakeHub, tmp_path: Path) -> None:
        remote.ignore_range = True
        remote.break_after = [100_000]
        path = resolve_model(f"hf:{REPO}", hub=local(remote, tmp_path))
        assert path.read_bytes() == Q4

    def test_a_partial_file_that_is_too_long(self, remote: FakeHub, tmp_path: Path) -> None:
        blobs = tmp_path / "cache" / f"models--{REPO.replace('/', '--')}" / "blobs"
        blobs.mkdir(parents=True)
        name = hashlib.sha256(Q4).hexdigest()
        (blobs / f"{name}.incomplete").write_bytes(bytes(len(Q4) + 1))
        path = resolve_model(f"hf:{REPO}", hub=local(remote, tmp_path))
        assert path.read_bytes() == Q4

    @pytest.mark.parametrize("n_left", [100_000, len(Q4)])
    def test_a_partial_file_of_other_content(
        self, n_left: int, remote: FakeHub, tmp_path: Path
    ) -> None:
        hub = local(remote, tmp_path)
        blobs = tmp_path / "cache" / f"models--{REPO.replace('/', '--')}" / "blobs"
        blobs.mkdir(parents=True)
        name = hashlib.sha256(Q4).hexdigest()
        (blobs / f"{name}.incomplete").write_bytes(bytes(n_left))
        with pytest.raises(ModelSourceError, match="arrived damaged"):
            resolve_model(f"hf:{REPO}", hub=hub)
        assert not partials(tmp_path)
        assert resolve_model(f"hf:{REPO}", hub=hub).read_bytes() == Q4

    def test_two_at_once_fetch_it_once(self, remote: FakeHub, tmp_path: Path) -> None:
        hub = local(remote, tmp_path)
        paths: list[Path] = []
        threads = [
            threading.Thread(target=lambda: paths.append(resolve_model(f"hf:{REPO}", hub=hub)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [path.read_bytes() == Q4 for path in paths] == [True] * 4
        assert len(remote.gets()) == 1
        assert not partials(tmp_path)


class TestRefusals:
    def refuse(self, spec: str, words: str, remote: FakeHub, tmp_path: Path) -> None:
        with pytest.raises(ModelSourceError, match=words) as caught:
            resolve_model(spec, hub=local(remote, tmp_path, "hf_secret"))
        assert "hf_secret" not in str(caught.value)

    def test_no_such_repository(self, remote: FakeHub, tmp_path: Path) -> None:
        self.refuse("hf:user/other", "no such repository", remote, tmp_path)

    def test_wrong_token(self, remote: FakeHub, tmp_path: Path) -> None:
        remote.token = "another"
        self.refuse(f"hf:{REPO}", "HF_TOKEN", remote, tmp_path)

    @pytest.mark.parametrize("status", [401, 403])
    def test_no_access(self, status: int, remote: FakeHub, tmp_path: Path) -> None:
        remote.status = status
        self.refuse(f"hf:{REPO}", "HF_TOKEN", remote, tmp_path)

    def test_gated(self, remote: FakeHub, tmp_path: Path) -> None:
        remote.status, remote.error_code = 403, "GatedRepo"
        self.refuse(f"hf:{REPO}", "granted on its page", remote, tmp_path)

    def test_no_such_quant_lists_what_there_is(self, remote: FakeHub, tmp_path: Path) -> None:
        self.refuse(f"hf:{REPO}:Q4_0", r"no GGUF file of Q4_0; it holds .*Q8_0", remote, tmp_path)

    def test_no_gguf(self, remote: FakeHub, tmp_path: Path) -> None:
        remote.repos[REPO] = {"model.safetensors": b"x"}
        self.refuse(f"hf:{REPO}", "holds no GGUF file", remote, tmp_path)

    def test_damaged_on_the_way(self, remote: FakeHub, tmp_path: Path) -> None:
        remote.corrupt = True
        self.refuse(f"hf:{REPO}", "arrived damaged", remote, tmp_path)
        assert not partials(tmp_path)

    def test_unwritable_cache(self, remote: FakeHub, tmp_path: Path) -> None:
        (tmp_path / "cache").write_bytes(b"a file where a folder should be")
        self.refuse(f"hf:{REPO}", "cannot be stored: Not a directory", remote, tmp_path)


class TestOffline:
    def test_what_is_cached_serves(self, remote: FakeHub, tmp_path: Path) -> None:
        path = resolve_model(f"hf:{REPO}:Q8_0", hub=local(remote, tmp_path))
        away = Hub("http://127.0.0.1:9", None, tmp_path / "cache")
        assert resolve_model(f"hf:{REPO}:Q8_0", hub=away) == path
        with pytest.raises(ModelSourceError, match="cannot be had from the hub"):
            resolve_model(f"hf:{REPO}:BF16", hub=away)

    def test_half_a_split_model_does_not(self, remote: FakeHub, tmp_path: Path) -> None:
        hub = local(remote, tmp_path)
        path = resolve_model(f"hf:{REPO}:BF16", hub=hub)
        path.with_name("tiny-BF16-00002-of-00002.gguf").unlink()
        away = Hub("http://127.0.0.1:9", None, tmp_path / "cache")
        with pytest.raises(ModelSourceError, match="cannot be had from the hub"):
            resolve_model(f"hf:{REPO}:BF16", hub=away)

    def test_a_hub_that_is_down(self, remote: FakeHub, tmp_path: Path) -> None:
        hub = local(remote, tmp_path)
        path = resolve_model(f"hf:{REPO}:Q8_0", hub=hub)
        remote.status = 500
        assert resolve_model(f"hf:{REPO}:Q8_0", hub=hub) == path


@pytest.mark.parametrize(
    ("names", "quant", "wanted"),
    [
        (["b.Q8_0.gguf", "a.Q4_K_M.gguf"], None, ["a.Q4_K_M.gguf"]),
        (["b.Q8_0.gguf", "a.F16.gguf"], None, ["b.Q8_0.gguf"]),
        (["b.Q2_K.gguf", "a.F16.gguf"], None, ["a.F16.gguf"]),
        (["m-Q4_K_M.gguf", "m-Q4_K.gguf"], "q4_k", ["m-Q4_K.gguf"]),
        (["m-UD-Q4_K_XL.gguf"], "Q4_K_XL", ["m-UD-Q4_K_XL.gguf"]),
        (["m-UD-Q4_K_XL.gguf"], "ud-q4_k_xl", ["m-UD-Q4_K_XL.gguf"]),
        (["Q8_0/m-F16.gguf", "m-Q8_0.gguf"], "Q8_0", ["m-Q8_0.gguf"]),
        (["Q8_0/m.gguf"], "Q8_0", ["Q8_0/m.gguf"]),
        (["M.GGUF"], None, ["M.GGUF"]),
        (["../m-Q8_0.gguf", "ok-F16.gguf"], None, ["ok-F16.gguf"]),
        (["/etc/m-Q8_0.gguf", "ok-F16.gguf"], None, ["ok-F16.gguf"]),
    ],
)
def test_choice(names: list[str], quant: str | None, wanted: list[str]) -> None:
    assert choose_files(names, quant, "u/r") == wanted


def test_choice_wants_every_part() -> None:
    names = ["m-Q8_0-00001-of-00003.gguf", "m-Q8_0-00003-of-00003.gguf"]
    with pytest.raises(ModelSourceError, match="lacks m-Q8_0-00002-of-00003"):
        choose_files(names, "Q8_0", "u/r")


def test_token_is_not_shown() -> None:
    assert "hf_secret" not in repr(Hub(token="hf_secret"))

"""Whatever the disk does, requests are served; the log has a line of it, a counter the number."""

import errno
import logging
import shutil
import time

import pytest

from slotmux.runtime.memory.disk.store import Store
from tests.runtime.engine.test_core import prompt_of
from tests.runtime.memory.disk.bench import IDENTITY
from tests.runtime.memory.disk.faults import FaultyFiles, damage

KIND = "hybrid"


@pytest.fixture
def files():
    return FaultyFiles()


@pytest.fixture
def serve(serve, tmp_path, files):
    """The same with files that fail when they are told to, and a folder that may go."""

    def begin(kind=KIND, folder=tmp_path / "tier", **options):
        return serve(kind, folder, **{"files": files, **options})

    return begin


def lines(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def talk(bench, n_chats=3):
    """A few conversations, each of which ends."""
    for seed in range(n_chats):
        bench.computed(prompt_of(70, seed), max_tokens=5, ignore_eos=True)
    bench.spill()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_takes_nothing(serve, files, caplog, number):
    bench = serve()
    files.broken["write"] = number
    talk(bench)
    assert len(lines(caplog)) == 1
    assert "serving goes on" in lines(caplog)[0]
    assert bench.tier.stats().faults == {"write": 1}, "it was tried again at once"
    assert bench.tier.stats().n_files == 0
    files.broken.clear()
    bench.store._resume = 0.0  # later
    talk(bench)
    assert bench.tier.stats().n_files > 0
    assert len(lines(caplog)) == 1


def test_a_file_that_cannot_be_read(serve, files, caplog):
    talk(serve(), 1)
    bench = serve()
    files.broken["read"] = errno.EIO
    n, receiver = bench.computed(prompt_of(70), max_tokens=5, ignore_eos=True)
    assert receiver.last[0].usage.n_cached == 0
    assert n >= 70
    assert len(lines(caplog)) == 1
    assert bench.tier.stats().faults == {"read": 1}
    bench.computed([*prompt_of(70), 3], max_tokens=5)
    assert bench.tier.stats().faults["read"] == 1, "a file that cannot be read is left out"


@pytest.mark.parametrize("how", ["flip", "cut", "version", "empty"])
@pytest.mark.parametrize("when", ["before", "while"])
def test_a_damaged_file(serve, tmp_path, caplog, how, when):
    first = serve()
    talk(first, 1)
    first.close()
    bench = serve() if when == "while" else None
    paths = sorted(tmp_path.rglob("*-b.kv"))
    n_files = len(sorted(tmp_path.rglob("*.kv")))
    assert paths
    for path in paths:
        damage(path, -7 if how == "flip" and when == "while" else 40, how)
        if how == "empty":
            path.write_bytes(b"")
    bench = bench or serve()
    n, _ = bench.computed(prompt_of(70), max_tokens=5, ignore_eos=True)
    assert n >= 70, "states without their cells are of no use"
    assert len(lines(caplog)) == len(paths)
    assert bench.tier.stats().faults == {"damaged": len(paths)}
    assert all("left out" in line for line in lines(caplog))
    assert len(sorted(tmp_path.rglob("*.kv"))) == n_files - len(paths)


def test_a_folder_that_cannot_be_made(serve, tmp_path, caplog):
    (tmp_path / "tier").write_text("in the way")
    bench = serve()
    talk(bench)
    assert 1 <= len(lines(caplog)) <= 2
    assert bench.tier.stats().faults["open"]
    assert bench.tier.stats().n_files == 0


def test_a_folder_that_others_may_write(serve, tmp_path, caplog):
    (tmp_path / "tier").mkdir(mode=0o700)
    (tmp_path / "tier").chmod(0o777)
    talk(serve())
    assert "chmod go-w" in lines(caplog)[0]
    assert not sorted(tmp_path.rglob("*.kv"))


def test_a_folder_that_goes_while_it_is_used(serve, tmp_path, caplog):
    bench = serve()
    talk(bench, 1)
    shutil.rmtree(tmp_path / "tier")
    bench.store._looked -= 10  # seconds later
    bench.core.memory.drop_cache()
    n, _ = bench.computed(prompt_of(70), max_tokens=5, ignore_eos=True)
    assert n >= 70
    talk(bench, 2)
    assert sorted(tmp_path.rglob("*.kv")), "the folder is made again"
    bench.core.memory.drop_cache()
    n, _ = bench.computed(prompt_of(70), max_tokens=5, ignore_eos=True)
    assert n < 30
    assert not lines(caplog)


def test_two_servers_share_a_folder(serve, files):
    one, two = serve(), serve()
    talk(one)
    n_written = files.n_written
    two.store._looked = 0.0
    two.store.refresh()
    assert two.tier.stats().n_files == one.tier.stats().n_files
    n, receiver = two.computed(prompt_of(70), max_tokens=5, ignore_eos=True)
    assert receiver.last[0].usage.n_disk >= 64
    two.spill()
    assert files.n_written == n_written, "what the other has written is not written again"
    # One of them evicts; the other misses the file, and says nothing.
    for stored in one.store._order.all():
        one.store.drop(stored)
    two.core.memory.drop_cache()
    n, _ = two.computed(prompt_of(70), max_tokens=5, ignore_eos=True)
    assert n >= 70
    assert not two.tier.stats().faults


def test_two_servers_that_do_not_know_of_each_other_write_the_same(serve, tmp_path):
    one, two = serve(), serve()
    talk(one)
    talk(two)
    listed = sorted(tmp_path.rglob("*.kv"))
    assert len(listed) == one.tier.stats().n_files == two.tier.stats().n_files
    two.store._looked = 0.0
    two.store.refresh()
    assert two.tier.stats().n_bytes == one.tier.stats().n_bytes


def test_a_read_that_hangs_is_not_waited_for(serve, files):
    talk(serve(), 1)
    bench = serve()
    files.free.clear()
    bench.settle = lambda: None
    request, receiver = bench.add(prompt_of(70), max_tokens=5, ignore_eos=True)
    bench.step()
    assert bench.core.admission.n_waiting == 1, "reading is sooner than 70 seconds"
    (fetch,) = bench.tier._live
    fetch.began -= fetch.worth_s
    bench.step()
    assert bench.core.admission.n_waiting == 0
    bench.run()
    files.free.set()
    bench.check(request, receiver)
    assert receiver.last[0].usage.n_cached == 0


def test_what_is_computed_sooner_is_not_read(serve):
    talk(serve(), 1)
    bench = serve()
    bench.tier._reader.rate = 1.0  # bytes a second
    n, _ = bench.computed(prompt_of(70), max_tokens=5, ignore_eos=True)
    assert n >= 70
    assert bench.tier.stats().n_read_bytes == 0


def test_others_are_served_while_one_waits_for_the_disk(serve, files):
    talk(serve(), 1)
    bench = serve(n_slots=2)
    files.free.clear()
    bench.settle = lambda: None
    slow, slow_receiver = bench.add(prompt_of(70), max_tokens=5, ignore_eos=True)
    quick, quick_receiver = bench.add(prompt_of(70, 99), max_tokens=5, ignore_eos=True)
    for _ in range(30):
        bench.step()
    bench.check(quick, quick_receiver)
    assert 0 not in slow_receiver.last
    files.free.set()
    bench.run()
    bench.check(slow, slow_receiver)
    assert slow_receiver.last[0].usage.n_disk >= 64


def test_a_request_that_goes_while_it_waits_for_the_disk(serve, files):
    talk(serve(), 1)
    bench = serve()
    files.free.clear()
    bench.settle = lambda: None
    request, receiver = bench.add(prompt_of(70), max_tokens=5)
    bench.step()
    bench.core.abort(request.id, time.monotonic())
    bench.core.emit()
    files.free.set()
    for _ in range(3):
        bench.step()
    assert not bench.tier.is_reading
    assert bench.tier._reader._n_staged == 0
    assert 0 in receiver.last


def test_memory_of_another_model_goes_first(serve, tmp_path):
    other = serve(identity="12" * 32)
    talk(other)
    n_other = other.tier.stats().n_bytes
    other.close()
    limit = n_other + 6 * 4096
    bench = serve(n_bytes=limit)
    talk(bench)
    assert bench.tier.stats().n_bytes > 6 * 4096
    assert not (tmp_path / "tier" / ("12" * 16)).exists()


def test_memory_of_another_server_that_runs_stays(serve, tmp_path):
    other = serve(identity="12" * 32)
    talk(other)
    n_other = other.tier.stats().n_bytes
    bench = serve(n_bytes=n_other + 6 * 4096)
    talk(bench)
    assert bench.tier.stats().n_bytes <= 7 * 4096
    assert len(sorted((tmp_path / "tier" / ("12" * 16)).glob("*.kv"))) > 0


@pytest.mark.parametrize("n_pages", [0, 1, 5, 11])
def test_bytes_are_never_passed(tmp_path, files, serve, n_pages):
    bench = serve(n_bytes=n_pages * 4096)
    for seed in range(5):
        talk(bench, 1 + seed)
        n_bytes = sum(-(-p.stat().st_size // 4096) * 4096 for p in tmp_path.rglob("*.kv"))
        assert n_bytes == bench.tier.stats().n_bytes <= n_pages * 4096
    assert not bench.tier.stats().faults


def test_parts_of_a_writer_that_was_killed_are_removed(tmp_path, serve):
    folder = tmp_path / "tier" / IDENTITY[:32]
    folder.mkdir(parents=True, mode=0o700)
    (tmp_path / "tier").chmod(0o700)
    left = folder / ".slotmux-abc.part"
    left.write_bytes(b"half")
    one = serve()
    assert not left.exists()
    left.write_bytes(b"half")
    Store(tmp_path / "tier", 1 << 20, IDENTITY).open()
    assert left.exists(), "another server may be writing it"
    one.close()


@pytest.mark.parametrize("kind", ["attention", "hybrid"])
def test_memory_that_forgets_while_a_prompt_waits_is_looked_up_again(serve, kind):
    """What it has of the prompt when it is looked up is gone when its turn comes."""
    bench = serve(kind, n_slots=1)
    _, receiver = bench.computed(prompt_of(90), max_tokens=5, ignore_eos=True)
    bench.spill()
    bench.core.memory.drop_cache()
    bench.computed(prompt_of(90)[:40], max_tokens=1)
    running = bench.add(prompt_of(70, 5), max_tokens=20, ignore_eos=True)
    bench.step()
    waiting = bench.add(prompt_of(90).tolist() + receiver.tokens[0][:2], max_tokens=3)
    bench.step()
    (fetch,) = bench.tier._live
    assert fetch.sought.n_path >= 32
    bench.core.memory.drop_cache()
    bench.run()
    bench.check(*running)
    bench.check(*waiting)
    assert waiting[1].last[0].usage.n_disk >= 80

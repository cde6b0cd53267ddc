"""Random crowds over servers that end, are killed and begin again on one directory, whose disk is
full, fails, loses or damages files: every answer equals the oracle's, and memory is sound."""

import errno
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.runtime.engine.fake_model import EOG
from tests.runtime.engine.test_state_machine import EngineMachine, drafts
from tests.runtime.memory.disk.bench import DiskBench
from tests.runtime.memory.disk.faults import FaultyFiles, damage


class DiskMachine(EngineMachine):
    """``n_bytes``: of the store."""

    n_bytes = 1 << 30

    def new_bench(self):
        if not hasattr(self, "folder"):
            self.folder = Path(tempfile.mkdtemp(prefix="slotmux-test-"))
            self.files = FaultyFiles()
            self.n_restored = 0
        return DiskBench(
            self.kind, self.folder / "tier", n_bytes=self.n_bytes, files=self.files,
            n_slots=3, n_ctx=112, n_ubatch=11, **self.sizes,
        )  # fmt: skip

    @rule()
    def spill(self):
        self.bench.spill()

    @rule(data=st.data(), more=st.lists(st.integers(0, EOG - 1), max_size=20), n=st.integers(1, 30),
          n_kept=st.sampled_from([0, 5, 99, 99]))  # fmt: skip
    def come_back(self, data, more, n, n_kept):
        """When memory has forgotten."""
        over = [job for job in self.jobs.values() if 0 in job[1].last]
        if over:
            self.bench.spill()
            self.bench.core.memory.drop_cache()
            request, receiver = data.draw(st.sampled_from(over))
            tokens = request.prompt[:] + receiver.tokens.get(0, [])[:n_kept] + more
            if len(tokens) < self.bench.core.memory.n_ctx:
                new = self.bench.add(tokens, max_tokens=9, cache_salt=request.cache_salt)
                self.jobs[new[0].id] = new
                self.steps(n)

    @rule(is_sound=st.booleans(), is_over=st.booleans())
    def restart(self, is_sound, is_over):
        """The engine ends well or dies; what runs is finished or aborted."""
        if is_over:
            self.bench.run()
        for request, receiver in self.jobs.values():
            if len(receiver.last) < request.n:
                self.bench.core.abort(request.id, time.monotonic())
                self.bench.core.emit()
                self.aborted.add(request.id)
        n_ids = self.bench.n_ids
        self.note_restored()
        self.bench.close(is_sound=is_sound)
        self.bench = self.new_bench()
        self.bench.n_ids = n_ids

    @rule(
        operation=st.sampled_from(["read", "write", "list", "remove", "touch"]),
        number=st.sampled_from([errno.ENOSPC, errno.EIO, errno.EROFS]),
        n_steps=st.integers(0, 20),
    )
    def break_disk(self, operation, number, n_steps):
        """For some steps."""
        self.files.broken[operation] = number
        self.bench.tier._spill.flush()
        self.steps(n_steps)
        assert self.bench.tier.settle()
        self.files.broken.clear()
        self.bench.store._resume = 0.0

    @rule(data=st.data(), at=st.integers(0, 5000), how=st.sampled_from(["flip", "cut", "version"]))
    def damage_file(self, data, at, how):
        paths = sorted(self.folder.rglob("*.kv"))
        if paths:
            damage(data.draw(st.sampled_from(paths)), at, how)

    @rule()
    def lose_folder(self):
        shutil.rmtree(self.folder / "tier", ignore_errors=True)

    @rule(data=st.data())
    def lose_file(self, data):
        if paths := sorted(self.folder.rglob("*.kv")):
            data.draw(st.sampled_from(paths)).unlink(missing_ok=True)

    def note_restored(self):
        stats = self.bench.tier.stats()
        self.n_restored += stats.n_read_blocks + stats.n_read_states

    def teardown(self):
        self.files.broken.clear()
        self.note_restored()
        type(self).n_restored_in_all = type(self).n_restored_in_all + self.n_restored
        super().teardown()
        stored = self.bench.store
        assert not stored.faults["internal"]
        assert stored.n_bytes == sum(s.n_bytes for s in stored._order.all())
        assert stored.n_bytes <= self.n_bytes
        self.bench.close()
        shutil.rmtree(self.folder)


CASES = {
    "attention": ("attention", {"n_blocks": 40}, 1 << 30),
    "attention, little memory": ("attention", {"n_blocks": 9}, 1 << 30),
    "attention, little disk": ("attention", {"n_blocks": 9}, 5 << 12),
    "hybrid": ("hybrid", {"n_blocks": 40, "n_rows": 8}, 1 << 30),
    "hybrid, little memory": ("hybrid", {"n_blocks": 9, "n_rows": 4}, 1 << 30),
    "hybrid, little disk": ("hybrid", {"n_blocks": 9, "n_rows": 4}, 9 << 12),
    "recurrent": ("recurrent", {"n_rows": 7}, 1 << 30),
    "recurrent, no spare row": ("recurrent", {"n_rows": 3}, 1 << 30),
    "attention, drafts": ("attention", {"n_blocks": 40, **drafts(5)}, 1 << 30),
    "hybrid, one context, drafts": ("hybrid", {"n_blocks": 7, "n_rows": 3, **drafts(5)}, 1 << 30),
    "hybrid, drafts": ("hybrid", {"n_blocks": 40, "n_rows": 8, **drafts(2)}, 1 << 30),
    "recurrent, drafts": ("recurrent", {"n_rows": 5, **drafts(4)}, 1 << 30),
}


@pytest.mark.parametrize("case", CASES)
def test_random_operations_equal_the_oracle(case):
    kind, sizes, n_bytes = CASES[case]
    fields = {"kind": kind, "sizes": sizes, "n_bytes": n_bytes, "n_restored_in_all": 0}
    machine = type("Machine", (DiskMachine,), fields)
    runner = machine.TestCase
    runner.settings = settings(
        max_examples=12,
        stateful_step_count=30,
        deadline=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    runner("runTest").runTest()

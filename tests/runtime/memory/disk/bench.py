"""Cores over one directory, on fake models, as one server after another."""

import time

from slotmux.runtime.memory.disk.spill import Times
from slotmux.runtime.memory.disk.store import Store
from tests.runtime.engine.test_core import Bench

IDENTITY = "ab" * 32


class DiskBench(Bench):
    """A bench with a tier on disk, in which computing a token takes long."""

    def __init__(self, kind, folder, *, n_bytes=1 << 30, identity=IDENTITY, files=None, **options):
        self.store = Store(folder, n_bytes, identity, files)
        super().__init__(kind, store=self.store, **options)
        self.tier = self.core.tier
        # What is done does not depend on the clock.
        self.tier.times = self.tier._spill._times = Times(1e9, 1e9, 1e9, 1e9, 60.0)
        assert self.tier.settle()

    def step(self):
        self.core.scheduler.pace.token_s = 1.0
        super().step()
        self.settle()

    def settle(self):
        """Until nothing is read or written."""
        assert self.tier.settle()
        end = time.monotonic() + 30
        while not all(fetch.is_done or fetch.is_cancelled for fetch in self.tier._live):
            assert time.monotonic() < end
            time.sleep(0.0002)

    def spill(self):
        """Have all that is left written, without the wait."""
        self.tier._spill.flush()
        assert self.tier.settle()
        self.core.memory.check_integrity()

    def close(self, *, is_sound=True):
        self.core.close(is_sound=is_sound)

    def computed(self, prompt, **options):
        """Run one request to its end; the tokens that were computed for it, and what it got."""
        before = self.model.n_tokens_computed
        request, receiver = self.add(prompt, **options)
        self.run()
        self.check(request, receiver)
        return self.model.n_tokens_computed - before, receiver

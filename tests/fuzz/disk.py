"""A crowd whose prefix cache has a tier on disk, before servers that end, are killed and begin
again; files are damaged and lost meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

from slotmux.runtime.engine.core import Core
from slotmux.runtime.memory.disk.spill import Times
from slotmux.runtime.memory.disk.store import Store
from slotmux.runtime.model import Model
from tests.fuzz.crowd import EOG, Crowd
from tests.fuzz.scene import Scene
from tests.runtime.engine.crowd import IdDetokenizer
from tests.runtime.engine.fake_model import EagerCosts
from tests.runtime.memory.disk.faults import damage

IDENTITY = "cd" * 32


class DiskCrowd(Crowd):
    """``n_restored``: blocks and states that came from disk."""

    def __init__(self, scene: Scene, model: Model, folder: Path) -> None:
        self.folder = folder
        self.n_restored = self.n_restarts = 0
        super().__init__(scene, model)

    def _new_core(self) -> Core:
        store = Store(self.folder, 1 << 30, IDENTITY)
        config = self.scene.engine_config()
        core = Core(self.model, config, EOG, IdDetokenizer, EagerCosts(), store=store)
        assert core.tier is not None
        # Reading is always worth it, whatever the clock says.
        core.tier.times = core.tier._spill._times = Times(1e9, 1e9, 1e9, 1e9, 60.0)
        assert core.tier.settle()
        return core

    def run(self, n_steps: int) -> None:
        super().run(n_steps)
        self._leave(is_sound=True)

    def _step(self) -> None:
        self.core.scheduler.pace.token_s = 1.0
        super()._step()
        tier = self.core.tier
        assert tier is not None
        end = time.monotonic() + 30
        while not all(fetch.is_done or fetch.is_cancelled for fetch in tier._live):
            assert time.monotonic() < end
            time.sleep(0.0002)

    def _act(self) -> None:
        super()._act()
        tier, what = self.core.tier, self.rng.random()
        assert tier is not None
        if what < 0.10:
            tier._spill.flush()
            assert tier.settle()
            self.core.memory.drop_cache()
        elif what < 0.14:
            self._restart(is_sound=self.rng.random() < 0.5)
        elif what < 0.16 and (paths := sorted(self.folder.rglob("*.kv"))):
            how = self.rng.choice(("flip", "cut", "version"))
            damage(self.rng.choice(paths), self.rng.randrange(1 << 16), how)
        elif what < 0.17 and (paths := sorted(self.folder.rglob("*.kv"))):
            self.rng.choice(paths).unlink()

    def _prompt(self) -> list[int]:
        """More often than else what goes on from an earlier answer."""
        over = [s for s in self.sent if s.is_over and len(s.request.prompt) > 32]
        if over and self.rng.random() < 0.5:
            earlier = self.rng.choice(over)
            turn = [self.rng.randrange(self.scene.n_vocab) for _ in range(20)]
            return [*earlier.request.prompt, *earlier.answers[0].tokens, *turn]
        return super()._prompt()

    def _restart(self, *, is_sound: bool) -> None:
        """What runs is cut off or finishes first."""
        while self.core.has_work and self.rng.random() < 0.98:
            self._step()
        for sent in self.sent:
            if not sent.is_over:
                sent.is_aborted = True
                self.core.abort(sent.request.id, self.now)
                self.core.emit()
        self._leave(is_sound=is_sound)
        self.core = self._new_core()
        self.n_restarts += 1

    def _leave(self, *, is_sound: bool) -> None:
        tier = self.core.tier
        assert tier is not None
        self.core.memory.check_integrity()
        self.core.close(is_sound=is_sound)
        stats = tier.stats()
        assert not stats.faults.get("internal")
        self.n_restored += stats.n_read_blocks + stats.n_read_states

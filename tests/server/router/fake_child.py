"""A model's process with a fake model: what its "file" says, in JSON, is how it behaves."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from slotmux.server.process.state import Loaded
from slotmux.server.settings import Settings
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import loaded_with

COMMAND = (sys.executable, "-m", "tests.server.router.start_fake")


class DyingEngine(FakeEngine):
    """A prompt that ends with "!" kills the process in the midst of its answer."""

    def submit(self, request: Any) -> int:
        if bytes(i for i in request.prompt if i < 256).rstrip(b">").endswith(b"!"):
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return super().submit(request)


def assemble(settings: Settings, permit: Callable[[Any], None]) -> Loaded:
    assert settings.model is not None
    options = json.loads(Path(settings.model).read_text())
    n_bytes = options.get("bytes", 1_000_000)
    budget = SimpleNamespace(total_bytes=n_bytes, describe=lambda: f"{n_bytes} bytes in all")
    permit(SimpleNamespace(budget=budget))
    time.sleep(options.get("load_s", 0.0))
    if "load_error" in options:
        raise ValueError(options["load_error"])
    engine = DyingEngine(**options.get("engine", {}))
    engine.script = options.get("script", settings.alias[0]).encode()
    name, *aliases = settings.alias
    file_name = Path(settings.model).name
    return loaded_with(engine, name=name, aliases=tuple(aliases), file_name=file_name)

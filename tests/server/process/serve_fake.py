"""A process that serves a fake model: what the lifecycle tests start and send signals to."""

from __future__ import annotations

import ctypes
import json
import sys
import threading
import time

from slotmux.server.process.serve import run
from slotmux.server.process.state import Loaded
from slotmux.server.settings import load_settings
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import loaded_with


def main() -> int:
    options = json.loads(sys.argv[1])
    engine = FakeEngine(**options.get("engine", {}))

    def freeze() -> None:
        """What a bug in compiled code looks like that keeps the GIL."""
        ctypes.PyDLL(None).sleep(60)

    def hang() -> None:
        """What a kernel looks like that never ends."""
        engine.heartbeat_age_s = 1e6

    def load() -> Loaded:
        time.sleep(options.get("load_s", 0.0))
        if "load_error" in options:
            raise ValueError(options["load_error"])
        for name, happens in (("die", engine.die), ("hang", hang), ("freeze", freeze)):
            if f"{name}_after_s" in options:
                timer = threading.Timer(options[f"{name}_after_s"], happens)
                timer.daemon = True
                timer.start()
        return loaded_with(engine)

    engine.script = bytes(engine.script * options.get("repeat", 1))
    return run(load_settings(**options.get("settings", {})), load)


if __name__ == "__main__":
    sys.exit(main())

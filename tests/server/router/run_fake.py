"""A process that routes to fake models: what tests of its end start and send signals to."""

from __future__ import annotations

import json
import sys

from slotmux.server.router.run import run_router
from slotmux.server.settings import load_settings
from tests.server.router.fake_child import COMMAND

if __name__ == "__main__":
    flags = json.loads(sys.argv[1])
    sys.exit(run_router(load_settings(**flags), flags, command=COMMAND))

"""server/router/processes/start_child.py for a fake model."""

from __future__ import annotations

import sys

from slotmux.server.router.processes.start_child import die_with

if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    from slotmux.server.router.processes.child import main
    from tests.server.router.fake_child import assemble

    sys.exit(main(assemble))

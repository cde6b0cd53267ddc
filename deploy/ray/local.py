"""`python -m slotmux.deploy.ray.local model=demo replicas=2`: a cluster on this machine alone,
which ends with this process. What `make serve-ray` runs."""

from __future__ import annotations

import os
import signal
import sys
import threading

from slotmux.deploy.ray.options import Options
from slotmux.server.process.serve import EXIT_FAILED, EXIT_UNUSABLE
from slotmux.server.settings import SettingsError
from slotmux.server.start import EXIT_INTERRUPTED

LOOPBACK, PORT = "127.0.0.1", 8000


def main(words: list[str]) -> int:
    """Serves until a signal; ``words``: name=value, of the application, and port, cpus, proxy."""
    args = {"host": LOOPBACK} | dict(word.split("=", 1) for word in words)
    port, n_cpus = int(args.pop("port", PORT)), int(args.pop("cpus", 0))
    if args.pop("proxy", "haproxy") == "haproxy":
        os.environ["RAY_SERVE_ENABLE_HA_PROXY"] = "1"
    # Nothing leaves the machine, and nobody else's cluster is met.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "local"}
    import ray
    from ray import serve

    from slotmux.deploy.ray.application import build, options_of

    try:
        options = options_of(args)
        n_cpus = n_cpus or _enough_for(options)
        application = build(options)  # what is wrong is told before a cluster is started for it
    except SettingsError as error:
        print(f"slotmux: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    over = threading.Event()
    ray.init(
        num_cpus=n_cpus,
        include_dashboard=False,
        log_to_driver=True,
    )
    try:
        serve.start(http_options={"host": LOOPBACK, "port": port})
        serve.run(application, name="slotmux")
        for number in (signal.SIGINT, signal.SIGTERM):  # Ray has set handlers of its own
            signal.signal(number, lambda *_: over.set())
        print(f"slotmux: ready on http://{LOOPBACK}:{port}/v1", flush=True)
        over.wait()
    except RuntimeError as error:  # a replica that cannot start: its log is above
        print(f"slotmux: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:  # before it was ready
        return EXIT_INTERRUPTED
    finally:
        serve.shutdown()
        ray.shutdown()
    return 0


def _enough_for(options: Options) -> int:
    """The CPUs of this machine. Raises SettingsError: Ray would wait for more for ever."""
    n_cpus = len(os.sched_getaffinity(0))
    if options.n_cores > n_cpus:
        raise SettingsError(
            f"cores: {options.n_cores} are asked for, this machine has {n_cpus};"
            f" cpus={options.n_cores} has replicas share them"
        )
    return n_cpus


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

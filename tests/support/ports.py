"""Free ports on loopback for servers that must come back on the same one."""

from __future__ import annotations

import os
import random
import socket

# Below the range from which systems take the ports of outgoing connections: a port of that range can be gone by the
# time a killed server wants it back.
FIRST, LAST = 21_000, 31_999

_given: set[int] = set()
"""What this process was given. A server may not listen yet, so a look at the port alone could give it twice."""


def free_port() -> int:
    """A port that nobody listens on now, and that no other call here and no other worker of this run is given."""
    ports = _ports_of_this_worker()
    for port in random.sample(ports, len(ports)):
        if port not in _given and _can_be_bound(port):
            _given.add(port)
            return port
    raise RuntimeError(f"no free port between {FIRST} and {LAST}")


def _ports_of_this_worker() -> range:
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return range(FIRST + worker, LAST + 1, workers)


def _can_be_bound(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True

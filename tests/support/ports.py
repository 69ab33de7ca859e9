"""Free ports on loopback for servers that must come back on the same one."""

from __future__ import annotations

import random
import socket

# Below the range from which systems take the ports of outgoing connections: a port of that range can be gone by the
# time a killed server wants it back.
FIRST, LAST = 21_000, 31_999


def free_port() -> int:
    """A port that nobody listens on now."""
    for port in random.sample(range(FIRST, LAST + 1), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port between {FIRST} and {LAST}")

"""librdkafka's admin clients, which must not be let go of in the thread that answers for them.

An answer comes in a thread of the client's own. While that thread still holds the answer it also holds whatever the
answer leads to: an error, its traceback, and by that each frame that knew the client. If the last reference goes there,
librdkafka ends itself from within, and aborts the process. So every client is kept here until no answer can be under
way any more.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from confluent_kafka.admin import AdminClient

REQUEST_TIMEOUT: Final = 10.0
"""Seconds for one question to the cluster."""

RETIRED_SECONDS: Final = 2 * REQUEST_TIMEOUT
"""No answer to a question comes later."""

_in_use: Final[set[AdminClient]] = set()

_retired: Final[deque[tuple[float, AdminClient]]] = deque()
"""Those that are asked nothing any more, and when no answer can come any more. The oldest is first."""


class AdminClients:
    """One client at a time, made at its first use. Everything but `retire` belongs into the thread of the loop."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """`settings` are librdkafka's own."""
        self._settings = settings
        self._client: AdminClient | None = None

    def current(self) -> AdminClient:
        """The client that is in use, or a new one."""
        if self._client is None:
            release()
            self._client = client = AdminClient({**self._settings})
            _in_use.add(client)
        return self._client

    def replace(self, client: AdminClient) -> None:
        """What it knows may be outdated: whoever asks next gets another one. May be called twice for one client."""
        if self._client is client:
            self.retire()
            with suppress(RuntimeError):  # no loop runs: the next client that is made releases it
                asyncio.get_running_loop().call_later(RETIRED_SECONDS, release)

    def retire(self) -> None:
        """It is asked nothing any more. May be called from any thread, so it lets go of nothing itself."""
        client, self._client = self._client, None
        if client is not None:
            _retired.append((time.monotonic() + RETIRED_SECONDS, client))
            _in_use.discard(client)


def release() -> None:
    """Let go of clients that can have no answer under way."""
    while _retired and _retired[0][0] <= time.monotonic():
        _retired.popleft()

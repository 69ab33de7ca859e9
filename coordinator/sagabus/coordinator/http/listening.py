"""The address that the API listens at: it is had, or an error says why not, and what to do."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from typing import Final

from sagabus.contracts.errors import ExitCode, SagabusError
from sagabus.coordinator.http.connections import BACKLOG
from sagabus.messaging.settings import variable

_REASONS: Final[Mapping[int | None, str]] = {
    errno.EADDRINUSE: "another process listens there, such as another `sagabus dev`: end that one, or",
    errno.EADDRNOTAVAIL: "this machine has no such address:",
    errno.EACCES: "this user may not:",
}


class CannotListen(SagabusError):
    """The address is in use, or is not one of this machine."""

    exit_code = ExitCode.USAGE


def listen(address: tuple[str, int]) -> socket.socket:
    """Raises CannotListen."""
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        at = f"[{host}]" if ":" in host else host
        reason = _REASONS.get(error.errno, f"{error.strerror or error}:")
        another = f"{variable('http')}={at}:{port + 1 if port < 65_535 else 8080}"
        raise CannotListen(f"cannot listen on {at}:{port}: {reason} choose another address, {another}") from error


def refuse_taken(address: tuple[str, int] | None) -> None:
    """Raises CannotListen where nobody could listen there now; for None nothing.

    For who has much to start before the address is needed.
    """
    if address is not None:
        listen(address).close()

"""The settings that are text: each function gives the one form of a text, or raises ValueError with what to give.

Quick to import: a client command checks these alone, where no others are set.
"""

from __future__ import annotations

import re
from typing import Final

from sagabus.contracts.errors import SagabusError
from sagabus.contracts.names import local_name
from sagabus.messaging import database_url

DAY: Final = 86_400
"""Seconds."""

MOST_PARTITIONS: Final = 10_000
MOST_REPLICAS: Final = 32

EMBEDDED: Final = "embedded"
OFF: Final = "off"

_HOST_PORT: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")
_INSTANCE: Final = re.compile(r"[A-Za-z0-9._-]{0,200}")
_DURATION: Final = re.compile(r"(\d{1,9})\s*([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": DAY}
_LONGEST: Final = 36_500 * DAY


def kafka_servers(text: str) -> str:
    """Bootstrap servers, each with its port, or `embedded`."""
    if text in ("", EMBEDDED):
        return text
    try:
        return ",".join(_host_port(server.strip(), default=9092) for server in text.split(","))
    except ValueError as error:
        raise ValueError("give host:9092,host:9092 with no protocol before it, or embedded") from error


def database(text: str) -> str:
    return database_url.normalised(text) if text else text


def namespace(text: str) -> str:
    if text.startswith("sagabus_") or len(text.encode()) > 63:
        raise ValueError("give at most 63 characters, not beginning with sagabus_: such schemas are the participants'")
    try:
        return local_name(text, "namespace")
    except SagabusError as error:
        raise ValueError(str(error)) from error


def http_address(text: str) -> str:
    try:
        return text if text == OFF else _host_port(text)
    except ValueError as error:
        raise ValueError("give the address to listen on, 127.0.0.1:8080, or off") from error


def instance(text: str) -> str:
    if not _INSTANCE.fullmatch(text):
        raise ValueError("give up to 200 characters of A-Z a-z 0-9 . _ -, unique for each process")
    return text


def retention(text: str) -> float | None:
    """`30d`, `12h`, `90m`, `45s` as seconds; `off` as None."""
    given = text.strip().lower()
    if given == OFF:
        return None
    match = _DURATION.fullmatch(given)
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST:
        raise ValueError("give a time with its unit, 30d, 12h, 90m or 45s, or off to keep everything")
    return float(seconds)


def _host_port(text: str, default: int | None = None) -> str:
    match = _HOST_PORT.fullmatch(text)
    port = int(match[2] or default or 0) if match else 0
    if match is None or not 0 < port < 65536:
        raise ValueError("give host:port")
    return f"{match[1]}:{port}"

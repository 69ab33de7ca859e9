"""Unpacks compressed batches with an end: 33 KB on the wire may be 1 GB once unpacked.

aiokafka unpacks a batch whole, into as much memory as it takes. Its functions for that are replaced here by ones that
have an end within `bounded()`, and are as they were everywhere else: a program that we are a part of may read what it
likes with clients of its own. Nothing here reads a record.
"""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Any, Final

import cramjam
from aiokafka import codec

MOST_UNPACKED: Final = 32 * 1024 * 1024
"""Bytes of one batch, and of all that one look unpacks. Brokers take 1 MiB a batch by default, and messages of text
shrink to a twentieth or so. Python's objects for a batch of empty headers take thirty times as much."""

MODULES: Final = tuple(
    f"aiokafka.record.{name}"
    for name in ("default_records", "legacy_records", "_crecords.default_records", "_crecords.legacy_records")
)
"""Where aiokafka 0.14 looks its functions up when it needs them, in Python and in C."""

_FIRST_ROOM: Final = 64 * 1024
_RATIO: Final = 16
"""What is made room for first: more than messages usually need."""

_FULL: Final = "write whole buffer"
"""What cramjam says when the room does not suffice; it has no type of its own for that."""

_XERIAL_HEADER: Final = 16

Unpack = Callable[[Any], bytes]


class BatchTooLarge(Exception):
    """More than there is room for, all in all or by itself. Nothing of it was unpacked."""


class _Room:
    def __init__(self, left: int) -> None:
        self.left = left


_room: ContextVar[_Room | None] = ContextVar("room", default=None)


@contextmanager
def bounded() -> Iterator[None]:
    """What aiokafka unpacks within this has at most MOST_UNPACKED bytes, all in all; more raises BatchTooLarge."""
    before = _room.set(_Room(MOST_UNPACKED))
    try:
        yield
    finally:
        _room.reset(before)


def _gzip(payload: Any, most: int) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(payload)) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise BatchTooLarge
    return data


def _snappy(payload: Any, most: int) -> bytes:
    sizes = map(cramjam.snappy.decompress_raw_len, _snappy_blocks(payload))
    if sum(sizes) > most:
        raise BatchTooLarge
    return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in _snappy_blocks(payload))


def _snappy_blocks(payload: Any) -> Iterator[bytes]:
    """One, or those of xerial's framing, which Java writes. Raises ValueError: a length below one would never end."""
    data = bytes(payload)
    if not codec._detect_xerial_stream(data):
        yield data
        return
    at = _XERIAL_HEADER
    while at < len(data):
        size = struct.unpack_from("!i", data, at)[0] if len(data) - at >= struct.calcsize("!i") else 0
        at += struct.calcsize("!i")
        if not 0 < size <= len(data) - at:
            raise ValueError(f"a block of {size} bytes at byte {at}, of {len(data)} in all")
        yield data[at : at + size]
        at += size


def _into(unpack: Callable[[Any, bytearray], int]) -> Callable[[Any, int], bytes]:
    def unpacked(payload: Any, most: int) -> bytes:
        size = max(_FIRST_ROOM, _RATIO * len(payload))
        while True:
            room = bytearray(min(size, most))
            try:
                end = unpack(payload, room)
            except cramjam.DecompressionError as error:
                if _FULL not in str(error):
                    raise
                if size >= most:
                    raise BatchTooLarge from error
                size *= _RATIO
            else:
                return bytes(memoryview(room)[:end])

    return unpacked


_CODECS: Final[dict[str, Callable[[Any, int], bytes]]] = {
    "gzip_decode": _gzip,
    "snappy_decode": _snappy,
    "lz4_decode": _into(cramjam.lz4.decompress_into),
    "zstd_decode": _into(cramjam.zstd.decompress_into),
}


def _with_an_end(endless: Unpack, unpack: Callable[[Any, int], bytes]) -> Unpack:
    def unpacked(payload: Any) -> bytes:
        room = _room.get()
        if room is None:
            return endless(payload)
        data = unpack(payload, room.left)
        room.left -= len(data)
        return data

    return unpacked


def _install() -> None:
    for name in MODULES:
        try:
            module = import_module(name)
        except ImportError:  # aiokafka without its extensions
            continue
        for function, unpack in _CODECS.items():
            if hasattr(module, function):
                setattr(module, function, _with_an_end(getattr(codec, function), unpack))


_install()

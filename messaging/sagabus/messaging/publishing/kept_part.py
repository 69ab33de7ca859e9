"""What the row of a dead letter keeps of its record: all of it, or the beginning of each part that is too large.

A record may be 33 KB on the wire and 1 GB once unpacked, and PostgreSQL takes no value of 1 GB. A header
`x-dlt-cut-<part>`, behind the record's own ones, has length and SHA-256 of a part that is cut. The record itself stays
in Kafka, at the place that the row names, until its topic's retention removes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

from sagabus.contracts.envelope import Record, pack_headers

KEPT: Final = 1024 * 1024
"""Bytes of a key, of a value, and of all headers as they are stored, that are kept. Brokers take 1 MiB a batch by
default: whatever came uncompressed is kept whole."""

BEGINNING: Final = 4 * 1024
"""Bytes that are kept of a part that is larger than that; of headers those that fit whole."""

CUT: Final = "x-dlt-cut-"

FRAMING: Final = 8
"""Bytes of a header beside its name and value, as they are stored."""

Headers = Sequence[tuple[str, bytes]]


def kept(record: Record) -> tuple[bytes | None, Headers, bytes | None]:
    """Key, headers and value for the row. A record of ordinary size is the same byte for byte."""
    parts = too_large(record)
    if not parts:
        return record.key, record.headers, record.value
    key, value = record.key or b"", record.value or b""
    whole = {"key": key, "headers": pack_headers(record.headers), "value": value}
    cuts = [_cut(part, whole[part]) for part in parts]
    headers = _first(record.headers) if "headers" in parts else record.headers
    return (
        key[:BEGINNING] if "key" in parts else record.key,
        (*headers, *cuts),
        value[:BEGINNING] if "value" in parts else record.value,
    )


def too_large(record: Record) -> list[str]:
    """Which of key, headers and value are not kept whole."""
    sizes = {
        "key": len(record.key or b"") > KEPT,
        "headers": bytes_of(record.headers) > KEPT,
        "value": len(record.value or b"") > KEPT,
    }
    return [part for part, is_too_large in sizes.items() if is_too_large]


def cut_parts(headers: Headers) -> set[str]:
    """Of a row: which of key, value and headers are there with their beginning only."""
    return {name.removeprefix(CUT) for name, _ in headers if name.startswith(CUT)}


def size_of(record: Record) -> int:
    """Bytes, as they are stored."""
    return len(record.key or b"") + len(record.value or b"") + bytes_of(record.headers)


def _cut(part: str, data: bytes) -> tuple[str, bytes]:
    words = f"{len(data)} bytes, of which the beginning is kept; SHA-256 {sha256(data).hexdigest()}"
    return (f"{CUT}{part}", words.encode())


def bytes_of(headers: Iterable[tuple[str, bytes | None]]) -> int:
    """As they are stored."""
    return sum(len(name) + len(value or b"") + FRAMING for name, value in headers)


def _first(headers: Headers) -> Iterable[tuple[str, bytes]]:
    room = BEGINNING
    for header in headers:
        room -= bytes_of([header])
        if room < 0:
            return
        yield header

"""Reading headers: bytes that anybody may have written, so every fault has a name and a sentence."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final

from sagabus.contracts.envelope import Headers, microseconds
from sagabus.contracts.errors import MessageInvalid

TRACE: Final = ("traceparent", "tracestate")

CUT_BATCH: Final = "x-dlt-cut-batch"
"""Of a record that stands for a whole batch that was too large to be unpacked. Its value says so in words."""

BATCH_TOO_LARGE: Final = "batch.too_large"

REPEATED: Final = "headers.repeated"

_NONE: Final[frozenset[str]] = frozenset()

LONGEST: Final = 300
"""Characters of a header that we read. The longest of ours is an id of 240; with its source it is an index entry, of
which PostgreSQL takes 2,700 bytes, and it goes on in the headers of whatever it leads to."""

LONGEST_TRACE: Final = 1_024
"""Bytes of a trace header that are handed on; W3C asks for 512."""


class HeaderReader:
    """The headers of one record. One that is read may stand twice only with the same value: else it says two things.

    Raises MessageInvalid for a record that stands for a batch which was not read.
    """

    __slots__ = ("_differing", "_values", "_wanted")

    def __init__(self, headers: Sequence[tuple[str, bytes | None]], *, wanted: Sequence[str] = ()) -> None:
        """wanted: all that must be there, so that one that is missing is told with the others."""
        self._wanted = wanted
        self._values = dict(headers)
        self._differing = _NONE if len(self._values) == len(headers) else _differing(headers, self._values)
        if CUT_BATCH in self._values:
            raise MessageInvalid(BATCH_TOO_LARGE, (self._values[CUT_BATCH] or b"").decode(errors="replace"))

    def raw(self, name: str) -> bytes | None:
        if name in self._differing:
            raise MessageInvalid(REPEATED, f"header {name} stands more than once, with different values")
        return self._values.get(name)

    def text(self, name: str) -> str | None:
        value = self.raw(name)
        return self.required(name) if value else None if value is None else ""

    def required(self, name: str) -> str:
        value = self.raw(name)
        if not value:
            raise MessageInvalid("headers.missing", self._missing(name))
        try:
            text = value.decode()
        except UnicodeDecodeError as error:
            raise MessageInvalid("headers.not_utf8", f"header {name} is not UTF-8: {value[:40]!r}") from error
        if len(text) > LONGEST:
            raise MessageInvalid("headers.too_long", f"header {name} has {len(text)} characters; at most {LONGEST}")
        if "\0" in text:  # PostgreSQL's text has no room for it
            raise MessageInvalid("headers.invalid", f"header {name} holds a NUL: {value[:40]!r}")
        return text

    def _missing(self, name: str) -> str:
        others = [one for one in self._wanted if one != name and not self._values.get(one)]
        return f"headers {', '.join((name, *others))} are missing" if others else f"header {name} is missing"

    def number(self, name: str, *, most: int = 10**18 - 1) -> int:
        text = self.required(name)
        if text.isdigit() and text.isascii() and len(text) <= 18 and (number := int(text)) <= most:
            return number
        raise MessageInvalid("headers.invalid", f"header {name} is {text[:40]!r}, not a whole number up to {most}")

    def time(self, name: str) -> int:
        """RFC 3339, as microseconds since 1970."""
        text = self.required(name)
        try:
            return read_time(text)
        except (ValueError, TypeError, OverflowError) as error:  # TypeError: without a zone
            raise MessageInvalid("headers.invalid", f"header {name} is {text[:40]!r}, not an RFC 3339 time") from error

    def trace(self) -> Headers:
        """W3C trace context, handed on as it came; what cannot be one is left out, since every message bears it."""
        return trace_in(self._values, but=self._differing)


@lru_cache(maxsize=1_024)
def read_time(text: str) -> int:
    """RFC 3339 as microseconds since 1970. Many messages bear the time of one turn. Raises ValueError, TypeError for
    one without a zone, OverflowError."""
    return microseconds(datetime.fromisoformat(text))


def trace_in(values: Mapping[str, bytes | None], *, but: Collection[str] = ()) -> Headers:
    """As `HeaderReader.trace`. but: headers that are left out."""
    if values.keys().isdisjoint(TRACE):
        return ()
    found = ((name, values.get(name)) for name in TRACE if name not in but)
    return tuple((name, value) for name, value in found if value is not None and _may_be_trace(value))


def _differing(headers: Sequence[tuple[str, bytes | None]], last: Mapping[str, bytes | None]) -> frozenset[str]:
    return frozenset(name for name, value in headers if last[name] != value)


def _may_be_trace(value: bytes) -> bool:
    return len(value) <= LONGEST_TRACE and value.isascii() and b"\0" not in value

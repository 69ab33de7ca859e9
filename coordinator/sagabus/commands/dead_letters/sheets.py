"""Dead letters and parked rows as text for people, and as JSON from which every byte can be had back."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sagabus.commands import sheets
from sagabus.commands.dead_letters.cures import cure_of, meaning_of
from sagabus.commands.moments import moment, second
from sagabus.commands.printable import printable
from sagabus.commands.widths import cut
from sagabus.messaging.publishing.dead_letter_rows import Letter
from sagabus.messaging.publishing.parked_rows import Parked

SHORT: Final = 60
"""Characters of a key in a list."""

VALUE_SHOWN: Final = 4_000
"""Characters of a value that are shown; --json has all of it."""


def listed(letters: Sequence[Letter], totals: Mapping[str, int], *, width: int) -> Iterator[str]:
    """The letters, each in a line of at most so many characters; then how many there are by reason."""
    rows = [("ID", "AT (UTC)", "REASON", "TOPIC", "KEY", "MESSAGE")]
    rows += [(str(one.id), _second(one.at), one.reason, one.topic, _short(one.key), one.message) for one in letters]
    lines = sheets.columns(rows, widest=sheets.WIDEST) if letters else ()
    yield from (cut(line, width) for line in lines)
    for reason, total in totals.items():
        yield f"{total:>8}  {reason}"
    yield f"{sum(totals.values()):>8}  in all"


def line(letter: Letter) -> str:
    place = f"{letter.topic}:{letter.partition}:{letter.offset}"
    return f"{letter.id} {letter.reason}, from {place}, key {_short(letter.key)}: {letter.message}"


def shown(letter: Letter) -> Iterator[str]:
    yield f"dead letter {letter.id}: {letter.reason}"
    yield f"  {letter.message}"
    yield f"  what it means: {meaning_of(letter.reason)}"
    yield f"  usual cure: {cure_of(letter.reason)}"
    sent = _moment(datetime.fromtimestamp(letter.timestamp / 1_000, UTC)) if letter.timestamp >= 0 else "at no time"
    yield f"  from {letter.topic}, partition {letter.partition}, offset {letter.offset}, sent {sent}"
    yield f"  dead since {_moment(letter.at)}, in shard {letter.shard}"
    yield f"  key: {_readable(letter.key)}"
    for name, value in letter.headers:
        yield f"  header {name}: {_readable(value)}"
    yield f"  value: {_readable(letter.value)}"


def summary(letter: Letter) -> dict[str, Any]:
    return {
        "id": letter.id, "at": letter.at.isoformat(), "reason": letter.reason, "message": letter.message,
        "topic": letter.topic, "partition": letter.partition, "offset": letter.offset, "timestamp": letter.timestamp,
        "key": _text(letter.key), "bytes": len(letter.value or b""),
    }  # fmt: skip


def whole(letter: Letter) -> dict[str, Any]:
    headers = [{"name": name, **_both("value", value)} for name, value in letter.headers]
    return {
        **summary(letter), "shard": letter.shard, "meaning": meaning_of(letter.reason),
        "cure": cure_of(letter.reason), **_both("key", letter.key),
        "headers": headers, **_both("value", letter.value),
    }  # fmt: skip


def parked(sagas: Sequence[Parked], *, width: int) -> Iterator[str]:
    """A line of at most so many characters for each."""
    rows = [("SAGA", "ROWS", "SINCE", "TOPIC", "WHY")]
    for one in sagas:
        words = f"is to be sent again since {_moment(one.released_at)}; " if one.released_at else ""
        rows.append((one.saga_id, str(one.rows), _moment(one.parked_at), one.topic, words + one.reason))
    lines = sheets.columns(rows, widest=sheets.WIDEST) if sagas else ("nothing is parked",)
    yield from (cut(line, width) for line in lines)


def parked_json(one: Parked) -> dict[str, Any]:
    return {
        "saga_id": one.saga_id, "shard": one.shard, "rows": one.rows, "topic": one.topic, "reason": one.reason,
        "parked_at": one.parked_at.isoformat(),
        "released_at": None if one.released_at is None else one.released_at.isoformat(),
    }  # fmt: skip


def _both(name: str, value: bytes | None) -> dict[str, str | None]:
    packed = None if value is None else base64.b64encode(value).decode()
    return {name: _text(value), f"{name}_base64": packed}


def _text(value: bytes | None) -> str | None:
    """None for what is no text."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _readable(value: bytes | None) -> str:
    if value is None:
        return "none"
    text = value.decode(errors="backslashreplace")
    plain = printable(text[:VALUE_SHOWN])
    return plain if len(text) <= VALUE_SHOWN else f"{plain}… ({len(value)} bytes in all; --json has them)"


def _short(value: bytes | None) -> str:
    """A key may be any bytes: it is bounded before it is read."""
    return cut(_readable(None if value is None else value[: 4 * SHORT]), SHORT)


def _moment(at: datetime) -> str:
    return moment(at.astimezone(UTC).isoformat(timespec="milliseconds"))


def _second(at: datetime) -> str:
    return second(at.astimezone(UTC).isoformat(timespec="seconds"))

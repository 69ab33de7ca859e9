"""Sagas as text for people. What the API gives goes in, lines come out; nothing in a value makes a line of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sagabus.commands import wait_sheets
from sagabus.commands.moments import moment, second
from sagabus.commands.printable import printable, printable_json
from sagabus.commands.widths import cut

Json = Mapping[str, Any]

WIDEST: Final = 24
"""Characters of a column of a list. One long id leaves the other lines as they are."""

PAYLOAD_SHOWN: Final = 120
"""Characters of a payload in a row of history."""


def listed(sagas: Sequence[Json], *, now: datetime, width: int) -> Iterator[str]:
    """A line of at most so many characters for each. now: aware; ages count up to it."""
    rows = [("ID", "SAGA", "STATUS", "STARTED (UTC)", "WAITS FOR")]
    rows += [(one["id"], one["saga"], one["status"], second(one["started_at"]), _marks(one, now)) for one in sagas]
    yield from (cut(line, width) for line in columns(rows, widest=WIDEST))


def shown(saga: Json, *, now: datetime) -> Iterator[str]:
    """now: aware; ages count up to it."""
    yield from map(printable, _shown(saga, now))


def _shown(saga: Json, now: datetime) -> Iterator[str]:
    yield f"{saga['id']}: {saga['saga']} version {saga['version']} is {saga['status']}"
    closed = f", closed {moment(saga['closed_at'])}" if saga["closed_at"] else ""
    yield f"  started {moment(saga['started_at'])}{closed}, shard {saga['shard']}, run {saga['run']}"
    if saga["paused"] and not any(map(wait_sheets.is_pause, saga.get("waits", ()))):
        yield "  paused"
    for line in (*concerns(saga["concerns"]), *wait_sheets.waits(saga, now=now), *wait_sheets.events(saga)):
        yield f"  {line}"
    for name in ("input", "attributes", "result", "error"):
        if saga.get(name) is not None:  # a coordinator of an older release tells no attributes
            yield f"  {name}: {compact(saga[name])}"
    if saga["steps"]:
        head = ("  STEP", "ACTIVITY", "STATUS", "ATTEMPTS", "UNDO", "DETAIL")
        yield from columns([head, *map(_step, saga["steps"])])
    for timer in saga["timers"]:
        yield f"  timer {timer['kind']} {timer['number']}: due {moment(timer['due'])}"


def concerns(listed: Iterable[Json]) -> Iterator[str]:
    for concern in listed:
        about = f" (step {concern['step']})" if concern["step"] else ""
        yield f"needs operator action: {concern['kind']}{about}: {concern['words']}"
        if cure := concern.get("cure"):  # a coordinator of an older release says none
            yield f"  cure: {cure}"


def row(row: Json) -> str:
    """A row of history, alone in a line."""
    payload = _payload(row)
    step = f"step {row['step']}" if row["step"] else ""
    cells = (moment(row["at"]), f"#{row['seq']}", row["kind"], step, row["name"], payload)
    return printable("  ".join(filter(None, cells)))


def told(history: Iterable[Json]) -> Iterator[str]:
    """Rows of history."""
    rows = [("  SEQ", "AT", "KIND", "STEP", "NAME", "PAYLOAD")]
    for row in history:
        number = str(row["step"] or "")
        rows.append((f"  {row['seq']}", moment(row["at"]), row["kind"], number, row["name"], _payload(row)))
    yield from columns(rows) if len(rows) > 1 else ()


def _payload(row: Json) -> str:
    return "" if row["payload"] is None else cut(compact(row["payload"]), PAYLOAD_SHOWN)


def ended(saga: Json) -> str:
    """The end in one line."""
    if saga["status"] == "completed":
        return f"{saga['id']} is completed: {compact(saga['result'])}"
    error = saga["error"]
    words = f"{error.get('code')}: {error.get('message')}" if isinstance(error, dict) else compact(error)
    return printable(f"{saga['id']} is {saga['status']}: {words}")


def compact(value: Any) -> str:
    return printable_json(value)


def _step(step: Json) -> tuple[str, ...]:
    is_nothing = step["undo"] == "none" or (step["status"], step["undo"]) == ("never", "done")
    undo = "" if is_nothing else f"{step['undo']} {step['compensation'] or ''}".rstrip()
    problem = step["undo_error"] or step["error"]
    words = _said(problem) if isinstance(problem, dict) else ""
    words = "; ".join(filter(None, (step.get("waits"), words)))
    return f"  {step['number']}", step["activity"], step["status"], str(step["attempts"]), undo, words


def _said(problem: Mapping[str, Any]) -> str:
    """A participant need not say more than a code."""
    return ": ".join(str(problem[part]) for part in ("code", "message") if problem.get(part))


def _marks(saga: Json, now: datetime) -> str:
    marks = ["paused"] if saga["paused"] else []
    marks += [code] if (code := saga.get("error_code")) else []
    kinds = ", ".join(dict.fromkeys(concern["kind"] for concern in saga["concerns"]))
    marks += [f"operator action: {kinds}: {saga['attention']}"] if kinds else []
    return "; ".join(filter(None, [*marks, wait_sheets.brief(saga, now=now)]))


def columns(rows: Sequence[Sequence[str]], *, widest: int | None = None) -> Iterator[str]:
    """Lines of a table; the last column has no width. widest: of a column; a longer cell moves the rest of its line."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths = widths if widest is None else [min(width, widest) for width in widths]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False))
        yield "  ".join([*cells, row[-1]]).rstrip()

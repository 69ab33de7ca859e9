"""What has changed between two states of contracts, and would break who works with the earlier one.

Whatever was written by the earlier contract has to be read by the later one: commands and replies under way, histories
that are replayed, events, start requests. Of a saga's result it is the other way round too: clients read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sagabus.commands.check.finding import Finding, error
from sagabus.commands.check.schema_changes import narrowings

Json = Mapping[str, Any]

_VERSIONS: Final = "let it be as it was, and give the changed one another name, used by a new version of the saga"
_FIELD: Final = "give a new field a default, and keep what was accepted"


def changes(before: Json, after: Json) -> Iterator[Finding]:
    """Errors. What was added is no finding."""
    yield from _removed("activity", before["activities"], after["activities"])
    yield from _removed("event", before["events"], after["events"])
    yield from _sagas_removed(before["sagas"], after["sagas"])
    for name, was, now in _both(before, after, "activities"):
        yield from _activity(name, was, now)
    for name, was, now in _both(before, after, "sagas"):
        yield from _reads(f"saga {name}", "input", was["input"], now["input"])
        yield from _result(name, was["output"], now["output"])
    for name, was, now in _both(before, after, "events"):
        yield from _event(name, was, now)


def _both(before: Json, after: Json, what: str) -> Iterator[tuple[str, Json, Json]]:
    for name, was in before[what].items():
        if name in after[what]:
            yield name, was, after[what][name]


def _removed(kind: str, before: Json, after: Json) -> Iterator[Finding]:
    for name in before:
        if name not in after:
            what = f"the {kind} {name} was removed"
            cure = "keep its contract until no open saga has to do with it, and no other service names it"
            yield error("contract.removed", what, cure, saga=name)


def _sagas_removed(before: Json, after: Json) -> Iterator[Finding]:
    """Of a saga that is still there in another version, a version may go: `sagabus diff` knows whether one is open."""
    kept = {name.partition(" version ")[0] for name in after}
    for name in dict.fromkeys(name.partition(" version ")[0] for name in before):
        if name not in kept:
            what = f"the saga {name} was removed"
            cure = "keep its definition until none is open and nobody starts one: `sagabus diff` counts the open ones"
            yield error("contract.removed", what, cure, saga=name)


def _activity(name: str, was: Json, now: Json) -> Iterator[Finding]:
    yield from _reads(name, "input", was["input"], now["input"])
    if now["output"] is not None:
        yield from _reads(name, "output", was["output"], now["output"])
    for code in was["refusals"]:
        if code not in now["refusals"]:
            what = f"{name} declares its refusal {code} no longer"
            cure = "participants of before send it still, and sagas may look for it: keep it declared"
            yield error("contract.refusal", what, cure, saga=name)
    undone, undoes = was["compensation"], now["compensation"]
    if undone is not None and undoes != undone:
        what = f"{name} is undone by {undoes or 'nothing'}, and was undone by {undone}"
        cure = f"open sagas have done it already, and {undone} belongs to what they did: {_VERSIONS}"
        yield error("contract.undo", what, cure, saga=name)


def _result(name: str, was: Json | None, now: Json | None) -> Iterator[Finding]:
    """Clients read it, some of them by the earlier contract."""
    if was is None:
        return
    for path, _ in narrowings(now or {"type": "null"}, was, whole=True):
        at = f" at {path}" if path else ""
        what = f"saga {name}: whoever reads its result as it was cannot read what it gives now{at}"
        yield error("contract.result", what, "keep the fields of the result and their types", saga=name)


def _event(name: str, was: Json, now: Json) -> Iterator[Finding]:
    yield from _reads(f"event {name}", "data", was["data"], now["data"])
    for field in ("topic", "key"):
        if was[field] != now[field]:
            what = f"event {name}: its {field} is {now[field]!r}, and was {was[field]!r}"
            yield error("contract.event", what, f"whoever reads it expects it as it was: {_VERSIONS}", saga=name)


def _reads(name: str, what: str, written: Json | None, read: Json | None) -> Iterator[Finding]:
    """written: the schema of what is there. read: of who reads it."""
    if written is None and read is None:
        return
    for path, words in narrowings(
        written if written is not None else {"type": "null"}, read if read is not None else {}
    ):
        at = f".{path}" if path else ""
        yield error("contract.narrowed", f"{name}: {what}{at}: {words}", _FIELD, saga=name)

"""What the doctor says of sagas that do not go on: by the reason for which, with the cure of that reason."""

from __future__ import annotations

from sagabus.commands.doctor.finding import Report
from sagabus.coordinator.core.saga.concern import ConcernKind
from sagabus.coordinator.core.saga.cure import cure_of_any
from sagabus.coordinator.store import open_sagas
from sagabus.coordinator.store.open_sagas import Attention, Flagged, Quiet
from sagabus.messaging.postgres.database import Connection


async def look(connection: Connection, namespace: str, report: Report) -> None:
    attention = await open_sagas.attention(connection, namespace)
    quiet = await open_sagas.quiet(connection, namespace)
    report.figures |= {
        "attention": attention.count, "attention_by_concern": {one.kind: one.count for one in attention.by_kind},
        "paused": quiet.paused_count, "without_news_for_1h": quiet.without_news,
    }  # fmt: skip
    for one in attention.by_kind:
        _flagged(one, attention, report)
    _paused(quiet, report)


def _flagged(flagged: Flagged, attention: Attention, report: Report) -> None:
    count, kind = flagged.count, flagged.kind
    those = "1 saga needs" if count == 1 else f"{count} sagas need"
    more = "" if attention.is_complete else f" (of the {attention.count} that were started first)"
    examples = "; ".join(f"{id}: {words}" for id, words in flagged.examples)
    what = f"{those} operator action: {kind}{more}: {examples}{_and_others(count, flagged.examples)}"
    report.found(f"sagas.{kind}", what, f"{_cure(kind)}; all of them: `sagabus list --concern {kind}`")


def _cure(kind: str) -> str:
    try:
        return cure_of_any(ConcernKind(kind))
    except ValueError:  # of a later release
        return "`sagabus show ID` says why; or undo what it has done, and end it: `sagabus cancel ID --reason WHY`"


def _paused(quiet: Quiet, report: Report) -> None:
    if quiet.paused_count:
        those = "1 saga is" if quiet.paused_count == 1 else f"{quiet.paused_count} sagas are"
        what = f"{those} paused: {', '.join(quiet.paused)}{_and_others(quiet.paused_count, quiet.paused)}"
        cure = "`sagabus resume ID --reason WHY` lets a saga go on; all of them: `sagabus list --paused`"
        report.found("sagas.paused", what, cure)


def _and_others(count: int, shown: list[str] | list[tuple[str, str]]) -> str:
    return f"; and {count - len(shown)} more" if count > len(shown) else ""

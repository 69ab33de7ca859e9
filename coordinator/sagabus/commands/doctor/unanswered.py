"""Which services open sagas wait for, long before these are flagged: nobody else tells of a dead service."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from sagabus.commands.doctor.finding import Report
from sagabus.coordinator.http.saga_views import ROWS_IN_LIST
from sagabus.coordinator.http.waits import WaitKind, Waits, waits_of
from sagabus.coordinator.store import open_sagas
from sagabus.coordinator.store.recent import RecentReads
from sagabus.messaging.postgres import condition
from sagabus.messaging.postgres.database import Connection

PATIENCE_SECONDS: Final = 60
"""Without an answer to a command, after which its saga is counted."""

SAGAS_AT_A_TIME: Final = 50
"""Whose latest rows are read by one statement."""


async def look(connection: Connection, namespace: str, report: Report) -> None:
    before = int((await condition.clock(connection) - PATIENCE_SECONDS) * 1_000_000)
    sagas, recent = await open_sagas.oldest(connection, namespace), RecentReads(namespace)
    waiting: defaultdict[str, list[str]] = defaultdict(list)
    for first in range(0, len(sagas), SAGAS_AT_A_TIME):
        part = sagas[first : first + SAGAS_AT_A_TIME]
        for saga, rows in zip(part, await recent.of(connection, part, most=ROWS_IN_LIST), strict=True):
            for service in _services(waits_of(saga, rows), before):
                waiting[service].append(saga.id)
    report.figures["waited_for_over_1min"] = {service: len(ids) for service, ids in sorted(waiting.items())}
    of_how_many = f" (of the {len(sagas)} that were started first)" if len(sagas) == open_sagas.OLDEST else ""
    report.hints += [_hint(service, ids, of_how_many) for service, ids in sorted(waiting.items())]


def _services(told: Waits, before: int) -> set[str]:
    """That have not answered what was sent before that time, in microseconds since 1970."""
    unanswered = (wait for wait in told.waits if wait.kind is WaitKind.ANSWER and (wait.since or before) < before)
    return {wait.step.service for wait in unanswered if wait.step is not None}


def _hint(service: str, ids: Sequence[str], of_how_many: str) -> str:
    those = f"1 open saga{of_how_many} has" if len(ids) == 1 else f"{len(ids)} open sagas{of_how_many} have"
    shown = ", ".join(ids[: open_sagas.EXAMPLES])
    more = f"; and {len(ids) - open_sagas.EXAMPLES} more" if len(ids) > open_sagas.EXAMPLES else ""
    return (
        f"{those} waited for {service} for more than a minute: {shown}{more}; does it run? `sagabus health FILE` "
        f"tells, with the FILE of its --health-file; all of them: `sagabus list --service {service}`"
    )

"""Rows `started` on their way to jobs: those of an owner before us, and those for which there was no room in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sagabus.contracts.errors import MessageInvalid
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.shards.tenure import Tenure
from sagabus.participants.handlers.declaration import Handler
from sagabus.participants.handlers.external import Externals
from sagabus.participants.handlers.jobs import Job
from sagabus.participants.inbox.store import Inbox, Started

logger = logging.getLogger(__name__)


class StartedPage(NamedTuple):
    """What one statement has read. all: nothing is behind it."""

    tenure: Tenure
    rows: Sequence[Started]
    all: bool


class StartedRows:
    """Reads within a transaction, and begins jobs behind it."""

    def __init__(self, inbox: Inbox, handlers: Mapping[str, Handler], externals: Externals) -> None:
        self._inbox = inbox
        self._handlers = handlers
        self._externals = externals

    def wants(self, tenures: Iterable[Tenure]) -> bool:
        """Whether `read` would read anything: mostly not."""
        return any(self._externals.of(tenure).wanted for tenure in tenures)

    async def read(self, connection: Connection, tenures: Iterable[Tenure]) -> list[StartedPage]:
        """A page of each tenure that has room for one. Changes nothing."""
        return [
            await self._page(connection, tenure, wanted)
            for tenure in tenures
            if (wanted := self._externals.of(tenure).wanted)
        ]

    async def tell_of_others(self, connection: Connection, tenure: Tenure) -> None:
        """Name in the log what was begun by external handlers that are none any more: its next copy is carried out."""
        others = await self._inbox.started_without(connection, tenure.shard, self._external())
        for activity, rows in others.items():
            logger.warning("%d commands of %s were begun by an external handler; there is none now", rows, activity)

    def resume(self, pages: Iterable[StartedPage]) -> None:
        """The transaction is committed: begin what is not at work yet."""
        for page in pages:
            for row in page.rows:
                self._resume(page.tenure, row)
            jobs = self._externals.of(page.tenure)
            jobs.read(jobs.after if page.all else page.rows[-1].position, all=page.all)
            if jobs.wanted:
                page.tenure.request_turn()

    async def _page(self, connection: Connection, tenure: Tenure, wanted: int) -> StartedPage:
        after = self._externals.of(tenure).after
        rows = await self._inbox.started(connection, tenure.shard, self._external(), after, wanted)
        return StartedPage(tenure, rows, all=len(rows) < wanted)

    def _resume(self, tenure: Tenure, started: Started) -> None:
        if self._externals.find(tenure, started.row.key) is not None:
            return
        try:
            command = started.read()
        except MessageInvalid as fault:  # to an older version of ours it was a command: a shard must not stop at it
            logger.error("command %s was begun and cannot be read any more: %s", started.row.id, fault)
        else:
            self._externals.start(Job(tenure, self._handlers[command.head.activity], command))

    def _external(self) -> list[str]:
        return [name for name, handler in self._handlers.items() if not handler.transaction]

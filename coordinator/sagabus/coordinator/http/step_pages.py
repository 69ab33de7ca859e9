"""The steps of a saga for whoever reads them page by page. They are told from its whole history, which is read once.

What was told is kept for a moment. It counts while the history has no newer row, which the index answers at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.http.step_progress import StepProgress
from sagabus.coordinator.http.steps import StepsTold
from sagabus.coordinator.store.operators import MAX_PAGE, OperatorReads
from sagabus.coordinator.store.rows import SagaKey, SagaRow

KEPT_SECONDS: Final = 5.0
"""After the last page. A reader asks for the next one at once."""

KEPT_SAGAS: Final = 2
"""Whose steps are kept: of a very long one they may take 128 MiB."""


@dataclass(frozen=True, slots=True)
class _Told:
    """last: number of the last row that was read. status: what the row of the saga said then."""

    steps: Sequence[StepProgress]
    last: int
    status: SagaStatus


class StepPages:
    def __init__(self, reads: OperatorReads) -> None:
        self._reads = reads
        self._kept: dict[SagaKey, _Told] = {}
        self._forgetting: dict[SagaKey, asyncio.TimerHandle] = {}

    async def steps(self, saga: SagaRow) -> Sequence[StepProgress]:
        """All of them, as they stand now."""
        told = self._kept.get(saga.key)
        if told is None or told.status is not saga.status or await self._has_grown(saga, told):
            told = await self._read(saga)
        self._keep(saga.key, told)
        return told.steps

    async def _has_grown(self, saga: SagaRow, told: _Told) -> bool:
        return bool(await self._reads.history(saga.key, after=told.last, limit=1))

    async def _read(self, saga: SagaRow) -> _Told:
        """Once; and once more if verbs were refused that a blocked saga had kept."""
        told, after = await self._read_all(saga.key, StepsTold(decided=saga.decided))
        if told.in_vain:
            told, after = await self._read_all(saga.key, StepsTold(told.in_vain, decided=saga.decided))
        retries = frozenset(await self._reads.retries(saga))
        return _Told(told.steps_now(retries, saga.status is SagaStatus.COMPENSATING), after, saga.status)

    async def _read_all(self, key: SagaKey, told: StepsTold) -> tuple[StepsTold, int]:
        """And the number of the last row. Page by page: other work has its turn, and other readers, between two."""
        after, more = 0, True
        while more:
            rows = await self._reads.history(key, after=after)
            for row in rows:
                told.take(row)
            more, after = len(rows) == MAX_PAGE, rows[-1].seq if rows else after
        return told, after

    def _keep(self, key: SagaKey, told: _Told) -> None:
        self._forget(key)
        while len(self._kept) >= KEPT_SAGAS:
            self._forget(next(iter(self._kept)))
        self._kept[key] = told
        self._forgetting[key] = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._forget, key)

    def _forget(self, key: SagaKey) -> None:
        self._kept.pop(key, None)
        if timer := self._forgetting.pop(key, None):
            timer.cancel()

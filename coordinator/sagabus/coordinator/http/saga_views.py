"""What the API shows of sagas. Every answer is bounded: a list, the steps and the history go page by page.

What is asked again and again, a saga that somebody waits for, costs the same however long the saga is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response

from sagabus.coordinator.core.saga import recorded
from sagabus.coordinator.http import query
from sagabus.coordinator.http.answers import answer
from sagabus.coordinator.http.closings import Closings
from sagabus.coordinator.http.refusals import ApiError
from sagabus.coordinator.http.step_pages import StepPages
from sagabus.coordinator.http.views import (
    ExportView,
    HistoryRowView,
    HistoryView,
    SagaPage,
    SagaSummary,
    SagaView,
    StepsView,
    StepView,
)
from sagabus.coordinator.http.waits import NOTHING, Waits, waits_of
from sagabus.coordinator.store.operators import OperatorReads
from sagabus.coordinator.store.rows import SagaKey, SagaRow, head_of

ROWS_OF_ONE: Final = 100
"""Latest rows of history that a look at one saga reads, to tell what it waits for."""

ROWS_IN_LIST: Final = 20
"""The same for each open saga of a list, which may have 500."""


class SagaViews:
    """closings: is told of every saga that closes in this process. owns: whether it is told of the end of this one."""

    def __init__(self, reads: OperatorReads, closings: Closings, owns: Callable[[str], bool]) -> None:
        self._reads = reads
        self._pages = StepPages(reads)
        self._closings = closings
        self._owns = owns
        self._draining = False

    def drain(self) -> None:
        """Who waits is answered with what is known now."""
        self._draining = True
        self._closings.wake_all()

    async def list(self, request: Request) -> Response:
        asked = query.ListQuery.read(request)
        if asked.is_of_none:
            return answer(SagaPage(sagas=[], next=None))
        page = await self._reads.page(asked.wanted, limit=asked.limit, after=asked.after)
        next = None if page.next is None else query.cursor(page.next)
        waits = await self._waits(page.sagas)
        shown = [(row, waits[row.key]) for row in page.sagas if _is_shown(asked.service, waits[row.key])]
        return answer(SagaPage(sagas=[SagaSummary.of(*one) for one in shown], next=next))

    async def _waits(self, sagas: Sequence[SagaRow]) -> Mapping[SagaKey, Waits]:
        """Of a page: the same for each saga, whatever its history is."""
        are_open = [row for row in sagas if not row.is_closed]
        recent = await self._reads.recent(are_open, most=ROWS_IN_LIST)
        told = {row.key: waits_of(row, of_it) for row, of_it in zip(are_open, recent, strict=True)}
        return {row.key: told.get(row.key, NOTHING) for row in sagas}

    async def show(self, request: Request) -> Response:
        id, run = query.saga_id(request), query.run(request)
        saga = await self._awaited(request, id, run, query.seconds(request))
        if saga is None and (asked := query.text(request, "start")):
            await self._raise_if_rejected(id, asked)
        if saga is None:
            raise await not_found(self._reads, id, run)
        (recent,) = await self._reads.recent([saga], most=ROWS_OF_ONE)
        details = await self._reads.details(saga)
        return answer(SagaView.whole(saga, details, waits_of(saga, recent), recent))

    async def _raise_if_rejected(self, id: str, message_id: str) -> None:
        """Who waits for a saga that will never be learns why."""
        if (why := await self._reads.rejection(id, message_id)) is not None:
            message = f"the request for saga {id} was rejected: {why[0]}: {why[1]}"
            raise ApiError(HTTPStatus.CONFLICT, "start.rejected", message)

    async def _awaited(self, request: Request, id: str, run: str | None, seconds: float) -> SagaRow | None:
        """The saga once it has closed, or as it is after these seconds."""

        async def look() -> SagaRow | None:
            return await self._reads.saga(id, run)

        async def given_up() -> bool:
            return self._draining or await request.is_disconnected()

        if seconds <= 0:
            return await look()
        return await self._closings.wait(id, look, seconds=seconds, owned=lambda: self._owns(id), given_up=given_up)

    async def steps(self, request: Request) -> Response:
        saga, after, limit = await self._page_of(request)
        steps = [step for step in await self._pages.steps(saga) if step.number > after]
        next = steps[limit - 1].number if len(steps) > limit else None
        shown = [StepView.of(step) for step in steps[:limit]]
        return answer(StepsView(id=saga.id, run=saga.run, steps=shown, next=next))

    async def history(self, request: Request) -> Response:
        saga, after, limit = await self._page_of(request)
        rows = await self._reads.history(saga.key, after=after, limit=limit)
        next = rows[-1].seq if len(rows) == limit else None
        shown = [HistoryRowView.of(row) for row in rows]
        return answer(HistoryView(id=saga.id, run=saga.run, rows=shown, next=next))

    async def export(self, request: Request) -> Response:
        saga, after, limit = await self._page_of(request)
        rows = await self._reads.history(saga.key, after=after, limit=limit)
        next = rows[-1].seq if len(rows) == limit else None
        lines: list[JsonValue] = [recorded.row_fields(row) for row in rows]
        head = recorded.head_fields(head_of(saga))
        return answer(ExportView(id=saga.id, run=saga.run, head=head, rows=lines, next=next))

    async def _page_of(self, request: Request) -> tuple[SagaRow, int, int]:
        """(whose list is asked for, the number after which it begins, how many at most)"""
        id, run = query.saga_id(request), query.run(request)
        after, limit = query.number(request, "after", 0), query.limit(request)
        saga = await self._reads.saga(id, run)
        if saga is None:
            raise await not_found(self._reads, id, run)
        return saga, after, limit


async def not_found(reads: OperatorReads, id: str, run: str | None) -> ApiError:
    """With what is known of it all the same."""
    which = id if run is None else f"{id} with run {run}"
    cure = "look at the id; a start that was just published may still be on its way: add ?wait=5"
    kept = await reads.kept_requests(id) or None
    if kept:
        cure += f"; requests that came for it, and are kept until it is started: {kept}"
    return ApiError(HTTPStatus.NOT_FOUND, "saga.not_found", f"no saga {which}: {cure}", kept_requests=kept)


def _is_shown(service: str | None, waits: Waits) -> bool:
    return service is None or waits.may_be_for(service)

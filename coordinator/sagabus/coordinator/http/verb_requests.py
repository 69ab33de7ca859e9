"""An operator's verbs: asked of the saga on its topic, and answered with what became of them.

    200 applied, with the saga as it stands now     409 refused, with the reason     404 there is no such saga
    202 not decided within the wait, or kept by a saga whose code cannot go on; with what it waits for

Only the saga's owner decides; here is only published, waited for and looked up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urlencode

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response

from sagabus.contracts import codec
from sagabus.contracts.envelope import Message
from sagabus.coordinator.core.saga.effects import RequestAnswer, RequestOutcome
from sagabus.coordinator.core.saga.request_answers import ENDS
from sagabus.coordinator.http import query
from sagabus.coordinator.http.answers import answer
from sagabus.coordinator.http.refusals import ApiError, ErrorDetail
from sagabus.coordinator.http.request_answers import RequestAnswers, Waiting
from sagabus.coordinator.http.saga_requests import SagaRequests, body_of, id_of
from sagabus.coordinator.http.saga_views import ROWS_IN_LIST, not_found
from sagabus.coordinator.http.verbs import VERBS, CancelBody
from sagabus.coordinator.http.views import SagaSummary, VerbAnswer
from sagabus.coordinator.http.waits import WaitKind, waits_of
from sagabus.coordinator.store.operators import OperatorReads
from sagabus.coordinator.store.rows import SagaKey, SagaRow
from sagabus.messaging.postgres.database import DatabaseUnreachable

APPEARS_SECONDS: Final = 1.0
"""How long a verb waits for its saga to be there: a start that was accepted a moment ago may still be on its way."""

LOOK_PAUSE_SECONDS: Final = 0.1

_Look = Callable[[SagaKey, str, int], Awaitable[RequestAnswer | None]]


class VerbRequests:
    """answers: hears of what this process decides. owns: whether that is so of this saga."""

    def __init__(
        self, requests: SagaRequests, reads: OperatorReads, answers: RequestAnswers, owns: Callable[[str], bool]
    ) -> None:
        self._requests = requests
        self._reads = reads
        self._answers = answers
        self._owns = owns
        self._draining = False

    def drain(self) -> None:
        """Who waits is answered with what is known now."""
        self._draining = True
        self._answers.wake_all()

    def of(self, verb: str) -> Callable[[Request], Awaitable[Response]]:
        """What answers at the address of this verb."""
        model = VERBS[verb]

        async def asked(request: Request) -> Response:
            body = codec.decode(model, await body_of(request), what="body")
            return await self._ask(request, verb, body)

        return asked

    async def _ask(self, request: Request, verb: str, body: CancelBody) -> Response:
        id, run, seconds = query.saga_id(request), query.run(request), query.answer_seconds(request)
        asked: dict[str, JsonValue] = {"type": verb, **body.fields()}
        if run is not None:
            asked["run"] = run
        message = self._requests.made(asked, id, body.request_id)
        message_id = id_of(message)
        if seconds <= 0:
            return await self._sent(message, _unknown(id, run, verb, message_id, after=0))
        try:
            saga = await self._there(request, id, run, min(seconds, APPEARS_SECONDS))
            after = 0 if body.request_id else await self._reads.last_row(saga.key)
        except DatabaseUnreachable as error:  # a verb is taken all the same: sagas go on when it is back
            view = _unknown(id, run, verb, message_id, after=0)
            view.waits_for = str(error)
            return await self._sent(message, view)
        with self._answers.awaited(message_id) as waiting:
            await self._requests.publish(message)
            look = self._look_for_end if verb in ENDS else self._look
            found = await self._wait(waiting, look, request, saga.key, message_id, after, seconds)
        view = await self._view(saga.key, verb, message_id, found, after)
        return await self._answered(view, saga)

    async def _sent(self, message: Message, view: VerbAnswer) -> Response:
        """Nobody waits for it."""
        await self._requests.publish(message)
        return self._undecided(view)

    async def show(self, request: Request) -> Response:
        """What became of a request, asked again. 404 while history has none of this id."""
        id, run, seconds = query.saga_id(request), query.run(request), query.seconds(request)
        message_id, after = query.request_id(request), query.number(request, "after", 0)
        saga = await self._reads.saga(id, run)
        if saga is None:
            raise await not_found(self._reads, id, run)
        found = await self._look(saga.key, message_id, after)
        if seconds > 0 and (found is None or found.outcome is RequestOutcome.KEPT):
            found = await self._decided(request, saga.key, message_id, after, seconds) or found
        if found is None:
            words = f"no request {message_id[:60]!r} is in the history of {id}; one on its way is found with ?wait=5"
            raise ApiError(HTTPStatus.NOT_FOUND, "request.not_found", words)
        return answer(await self._view(saga.key, found.verb, message_id, found, after))

    async def _decided(
        self, request: Request, key: SagaKey, message_id: str, after: int, seconds: float
    ) -> RequestAnswer | None:
        """Once it is applied or refused; None after these seconds, if it is not even kept."""
        with self._answers.awaited(message_id) as waiting:
            return await self._wait(waiting, self._look_for_end, request, key, message_id, after, seconds)

    async def _wait(
        self, waiting: Waiting, look: _Look, request: Request, key: SagaKey, message_id: str, after: int,
        seconds: float,
    ) -> RequestAnswer | None:  # fmt: skip
        """What `look` finds within these seconds, or what is known then."""
        found = await waiting.wait(
            lambda: look(key, message_id, after), seconds=seconds, owned=lambda: self._owns(key.id),
            given_up=lambda: self._given_up(request),
        )  # fmt: skip
        return found or await self._look(key, message_id, after)

    async def _look_for_end(self, key: SagaKey, message_id: str, after: int) -> RequestAnswer | None:
        """None too while the request is kept."""
        found = await self._look(key, message_id, after)
        return None if found is not None and found.outcome is RequestOutcome.KEPT else found

    async def _there(self, request: Request, id: str, run: str | None, seconds: float) -> SagaRow:
        """Raises ApiError: then nothing was published."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            saga = await self._reads.saga(id, run)
            if saga is not None:
                return saga
            if loop.time() >= end or await self._given_up(request):
                raise await not_found(self._reads, id, run)
            await asyncio.sleep(LOOK_PAUSE_SECONDS)

    async def _look(self, key: SagaKey, message_id: str, after: int) -> RequestAnswer | None:
        """What the rows say. Without a database nobody knows."""
        with suppress(DatabaseUnreachable):
            return await self._reads.request_answer(key, message_id, after=after)
        return None

    async def _given_up(self, request: Request) -> bool:
        return self._draining or await request.is_disconnected()

    async def _view(
        self, key: SagaKey, verb: str, message_id: str, found: RequestAnswer | None, after: int
    ) -> VerbAnswer:
        view = _unknown(key.id, key.run, verb, message_id, after=after)
        if found is not None:
            view.outcome = found.outcome.value
        if found is not None and found.outcome is RequestOutcome.REFUSED:
            view.error = ErrorDetail(code=found.code, message=found.message, message_id=message_id)
        if view.outcome in (RequestOutcome.APPLIED, RequestOutcome.REFUSED):
            view.look_again = None
        with suppress(DatabaseUnreachable):
            await self._tell_saga(view, key)
        return view

    async def _tell_saga(self, view: VerbAnswer, key: SagaKey) -> None:
        saga = await self._reads.saga(key.id, key.run)
        if saga is None:
            return
        (recent,) = await self._reads.recent([saga], most=ROWS_IN_LIST)
        waits = waits_of(saga, recent)
        view.saga = SagaSummary.of(saga, waits)
        if view.outcome == RequestOutcome.KEPT:
            words = [wait.words for wait in waits.waits if wait.kind is WaitKind.OPERATOR]
            view.waits_for = words[0] if words else "the saga's code cannot go on"
        elif view.look_again is not None:
            view.waits_for = await self._why_undecided(saga)

    async def _why_undecided(self, saga: SagaRow) -> str:
        if kept := await self._reads.kept_requests(saga.id):
            return f"its history is being read; requests that are kept meanwhile: {kept}"
        return f"the coordinator that owns shard {saga.shard} has not taken it in yet"

    async def _answered(self, view: VerbAnswer, saga: SagaRow) -> Response:
        if view.outcome == RequestOutcome.APPLIED:
            return answer(view)
        if view.error is not None:
            words = f"{saga.id}: {view.request} refused: {view.error.message}"
            raise ApiError(HTTPStatus.CONFLICT, view.error.code, words, message_id=view.message_id)
        with suppress(DatabaseUnreachable):
            if view.outcome == UNKNOWN and (why := await self._reads.rejection(saga.id, view.message_id)):
                words = f"{saga.id}: {view.request} refused: {why[1]}"
                raise ApiError(HTTPStatus.CONFLICT, why[0], words, message_id=view.message_id)
        return self._undecided(view)

    @staticmethod
    def _undecided(view: VerbAnswer) -> Response:
        return answer(view, HTTPStatus.ACCEPTED, {"location": view.look_again or ""})


UNKNOWN: Final = "unknown"


def _unknown(id: str, run: str | None, verb: str, message_id: str, *, after: int) -> VerbAnswer:
    params = {name: value for name, value in (("run", run), ("after", after)) if value}
    again = f"/api/v1/sagas/{quote(id, safe='')}/requests/{quote(message_id, safe='')}"
    return VerbAnswer(
        id=id, run=run, request=verb, message_id=message_id, outcome=UNKNOWN, error=None, waits_for=None, saga=None,
        look_again=f"{again}?{urlencode(params)}" if params else again,
    )  # fmt: skip

"""Fetch sessions with the brokers (KIP-227): each remembers which partitions a consumer reads, and from where.

Theory of operation. aiokafka's fetcher asks for all its partitions each time, and would be told of all of them each
time, though hardly any has a record. Here its request goes out as the difference from the one before: partitions whose
offset has changed, and those that are not to be read any more. The broker answers with those that have something to
say: records, an error, another end of the log. An idle fetch names no partition, and its answer none.

A session begins with a request that names all, and ends with anything that leaves unknown what the broker remembers: a
request that failed or was cancelled, an error of the session (the broker has dropped it, or has been started anew). The
next request then names all again, and asks for a new session. Whoever gives no session (the embedded bus, a broker
whose cache of sessions is full) is asked for all each time, as aiokafka does.

It must never leave the broker with another offset for a partition than the fetcher has asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiokafka.errors import NoError, for_code
from aiokafka.protocol.fetch import FetchRequest

from sagabus.messaging.bus.fetch_messages import VERSION, Place, SessionFetch, Wanted, wanted_of

NO_SESSION: Final = 0
FIRST_EPOCH: Final = 0
"""Of a request that names all; with the id of a session, the broker closes that one."""

LAST_EPOCH: Final = 2**31 - 1

SESSION_NOT_FOUND: Final = 70
SESSION_EPOCH_INVALID: Final = 71

Send = Callable[..., Awaitable[Any]]
"""`AIOKafkaClient.send`: node, request, and options."""


class FetchSessions:
    """One session with each broker, for the one fetcher of a consumer."""

    def __init__(self, send: Send, *, heard: Callable[[], None]) -> None:
        """heard: called with each answer."""
        self._send = send
        self._heard = heard
        self._sessions: dict[Any, _Session] = {}

    async def send(self, node: Any, request: Any, **options: Any) -> Any:
        """In the place of `AIOKafkaClient.send`. What is no fetch, or meets another one under way, goes on as it is."""
        session = self._sessions.setdefault(node, _Session()) if isinstance(request, FetchRequest) else None
        if session is None or session.under_way:
            return await self._send(node, request, **options)
        answer = await self._fetch(session, node, request, options)
        if answer.API_VERSION == VERSION and answer.error_code in (SESSION_NOT_FOUND, SESSION_EPOCH_INVALID):
            answer = await self._fetch(session, node, request, options)
        if answer.API_VERSION == VERSION and (error := for_code(answer.error_code)) is not NoError:
            raise error(f"the broker {node} refuses a fetch")
        return answer

    async def _fetch(self, session: _Session, node: Any, request: FetchRequest, options: dict[str, Any]) -> Any:
        answer = None
        wanted = wanted_of(request)
        session.under_way = True
        try:
            answer = await self._send(node, session.next(request, wanted), **options)
            self._heard()
        finally:
            session.under_way = False
            session.heard(answer, wanted)
        return answer


class _Session:
    """What one broker remembers, as far as is known."""

    def __init__(self) -> None:
        self.under_way = False
        self._id = NO_SESSION
        self._epoch = FIRST_EPOCH
        self._known: dict[Place, Wanted] = {}

    def next(self, plain: FetchRequest, wanted: dict[Place, Wanted]) -> SessionFetch:
        """The request that makes the broker read what is wanted."""
        known = self._known
        changed = {place: at for place, at in wanted.items() if known.get(place) != at}
        gone = [place for place in known if place not in wanted]
        return SessionFetch(plain, session=self._id, epoch=self._epoch, changed=changed, gone=gone)

    def heard(self, answer: Any, wanted: dict[Place, Wanted]) -> None:
        """The answer to `next`; None where there is none."""
        if answer is None or answer.API_VERSION != VERSION or answer.error_code:
            lost = answer is not None and (answer.API_VERSION != VERSION or answer.error_code == SESSION_NOT_FOUND)
            self._id, self._epoch, self._known = NO_SESSION if lost else self._id, FIRST_EPOCH, {}
        elif answer.session_id == NO_SESSION:
            self._id, self._epoch, self._known = NO_SESSION, FIRST_EPOCH, {}
        else:
            self._id, self._known = answer.session_id, wanted
            self._epoch = self._epoch + 1 if self._epoch < LAST_EPOCH else FIRST_EPOCH + 1

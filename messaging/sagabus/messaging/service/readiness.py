"""Whether a service does its work, and if not, why not: for probes, and for whoever looks after it.

It listens between the stream and the ownership, and compares what the group has given with what is held. A member that
the group gives nothing, because others hold all shards, is ready. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # a participant has a Readiness from its declaration on, and Kafka's clients are slow to import
    from aiokafka import TopicPartition

    from sagabus.contracts.envelope import Record
    from sagabus.messaging.bus.handover import Assignment, SubscriptionListener

DRAINING: Final = "it drains: the process was told to end"


class Readiness:
    """Of one service in one process, from its start to its end. May be asked at any time."""

    def __init__(self) -> None:
        self._reason = "it has not been started"
        self._death = ""
        self._given: frozenset[int] | None = None
        self._held: Callable[[], Collection[int]] | None = None
        self._away: Callable[[], str] = str
        self._problem: Callable[[], str] = str
        self._failing: Callable[[], str] = str

    @property
    def why_not(self) -> str:
        """Why it is not ready, in words; empty when it is."""
        if self._death:
            return self._death
        if self._held is None:
            return self._reason
        if away := self._away():
            return away
        if self._given is None:
            return _with("it is not in the consumer group at the moment", self._problem())
        missing = sorted(self._given.difference(self._held()))
        listed = ", ".join(map(str, missing))
        if not missing:
            return self._failing()
        return _with(f"shards that the group gave to it are not acquired: {listed}", self._problem())

    @property
    def on_standby(self) -> bool:
        """Whether it is ready with nothing to do, so that it knows nothing of the database either."""
        return self._held is not None and self._given == frozenset()

    def waits(self, reason: str) -> None:
        """It is on its way to running."""
        self._reason, self._held = reason, None

    def runs(
        self,
        held: Callable[[], Collection[int]],
        *,
        away: Callable[[], str] = str,
        problem: Callable[[], str] = str,
        failing: Callable[[], str] = str,
    ) -> None:
        """held: the shards that it holds now. away: why Kafka does not answer, problem: why shards are not held,
        failing: which shards take nothing in; all of them empty where nothing is known."""
        self._held, self._away, self._problem, self._failing = held, away, problem, failing

    def dies(self, reason: str) -> None:
        """A part of it has died, of which it does not recover: nothing makes it ready again."""
        self._death = self._death or reason

    def drains(self) -> None:
        """From here on it is not ready, whatever it still holds. To be told first of all."""
        self.waits(DRAINING)

    def watching(self, listener: SubscriptionListener) -> SubscriptionListener:
        """The listener, watched."""
        return _Watched(self, listener)


class _Watched:
    """Passes everything on."""

    def __init__(self, readiness: Readiness, listener: SubscriptionListener) -> None:
        self._readiness = readiness
        self._listener = listener

    async def assigned(self, assignment: Assignment) -> Mapping[TopicPartition, int]:
        self._readiness._given = assignment.shards
        return await self._listener.assigned(assignment)

    async def revoked(self) -> None:
        self._readiness._given = None
        await self._listener.revoked()

    async def batch(self, records: Sequence[Record]) -> None:
        await self._listener.batch(records)


def _with(sentence: str, reason: str) -> str:
    return f"{sentence}: {reason}" if reason else f"{sentence}; its log says why"

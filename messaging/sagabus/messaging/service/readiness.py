"""Whether a service does its work, and if not, why not: for probes, and for whoever looks after it.

It compares what the group has given with what is held. A member that the group gives nothing, because others hold all
shards, is ready. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Protocol

DRAINING: Final = "it drains: the process was told to end"


class Shards(Protocol):
    """Those of this process, as `Ownership` knows them. The words are empty where nothing is known."""

    @property
    def given(self) -> Collection[int] | None:
        """What the group has given to it; None while it is in no group."""

    @property
    def tenures(self) -> Collection[int]:
        """What it holds."""

    @property
    def kafka_away(self) -> str:
        """Why Kafka does not answer, in words."""

    @property
    def problem(self) -> str:
        """Why shards that it should have are not held."""

    @property
    def failing(self) -> str:
        """Which shards take no records in although they are held."""


class Readiness:
    """Of one service in one process, from its start to its end. May be asked at any time."""

    def __init__(self) -> None:
        self._reason = "it has not been started"
        self._death = ""
        self._parts: tuple[Shards, ...] = ()

    @property
    def why_not(self) -> str:
        """Why it is not ready, in words; empty when it is."""
        if self._death:
            return self._death
        if not self._parts:
            return self._reason
        return next(filter(None, map(_why_not, self._parts)), "")

    @property
    def on_standby(self) -> bool:
        """Whether it is ready with nothing to do, so that it knows nothing of the database either."""
        return bool(self._parts) and all(part.given is not None and not part.given for part in self._parts)

    def waits(self, reason: str) -> None:
        """It is on its way to running."""
        self._reason, self._parts = reason, ()

    def runs(self, *parts: Shards) -> None:
        """Its work is that on these."""
        self._parts = parts

    def dies(self, reason: str) -> None:
        """A part of it has died, of which it does not recover: nothing makes it ready again."""
        self._death = self._death or reason

    def drains(self) -> None:
        """From here on it is not ready, whatever it still holds. To be told first of all."""
        self.waits(DRAINING)


def _why_not(shards: Shards) -> str:
    if shards.kafka_away:
        return shards.kafka_away
    if shards.given is None:
        return _with("it is not in the consumer group at the moment", shards.problem)
    missing = sorted({*shards.given}.difference(shards.tenures))
    if not missing:
        return shards.failing
    listed = ", ".join(map(str, missing))
    return _with(f"shards that are assigned to it are not acquired: {listed}", shards.problem)


def _with(sentence: str, reason: str) -> str:
    return f"{sentence}: {reason}" if reason else f"{sentence}; its log says why"

"""One process's ownership of one shard, as an object: its token, where it stands, what it has to catch up with.

A tenure is never revived. When a write is refused, a commit is unknown or a message cannot be published, it ends with
all that was remembered under it, and the shard is taken again from the database (S2). Nothing here touches a socket.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TypedDict
from uuid import UUID

from aiokafka import TopicPartition

from sagabus.messaging.publishing.relay import Relay


@dataclass(frozen=True, slots=True)
class Log:
    """One partition of a topic as Kafka has it: the topic's id, the first offset, the offset of the next record."""

    id: str
    start: int
    end: int


class Place(TypedDict):
    """Where a shard stands in a topic, as the shard row keeps it."""

    id: str
    next: int


def _row_text(topic: str, log_id: str, offset: int) -> str:
    """One topic's part of the row's JSON object."""
    return f"{_head(topic, log_id)}{offset}}}"


@lru_cache(maxsize=1_024)
def _head(topic: str, log_id: str) -> str:
    return f'{json.dumps(topic)}: {{"id": {json.dumps(log_id)}, "next": '


class Tenure:
    """Of one shard, from its take to its end. Compared by identity: the same shard taken again is another tenure."""

    __slots__ = (
        "_behind", "_places", "_row_texts", "_topics_text", "deleted_to", "ended", "leaving", "looked_for_released_at",
        "lost_records", "new_logs", "next_position", "offsets", "pruned_before", "relay", "relay_stored", "shard",
        "token", "turn", "turn_requested", "turned_at", "when_requested",
    )  # fmt: skip

    def __init__(
        self,
        *,
        shard: int,
        token: UUID,
        turn: int,
        next_position: int,
        places: Mapping[str, Place],
        pruned_before: datetime | None,
        relay: Relay,
    ) -> None:
        self.shard = shard
        self.token = token
        self.turn = turn
        self.next_position = next_position
        self.pruned_before = pruned_before
        self.relay = relay
        self.relay_stored = relay.position
        """What the shard row says. Rows up to here are published; some may not have been deleted yet."""
        self.deleted_to = 0
        """Rows up to here have been deleted in this tenure, or are none. What an older one has left goes with the first
        deletion."""
        self.turned_at = 0.0
        """Monotonic seconds of the last turn; the first is due at once."""
        self.turn_requested = False
        """Somebody has something for its next turn. Set back when that begins."""
        self.when_requested: Callable[[], None] = _nobody
        """Who gives turns, and hears of a request at once."""
        self.ended = False
        self.leaving = False
        """The group deals the shards out anew, and waits: of a batch under way no further transaction is to begin."""
        self.offsets: dict[str, int] = {}
        """Topic to the offset of the next record that is to be taken in."""
        self.new_logs: tuple[str, ...] = ()
        """Topics whose log is another one now: the first turn, which empties this, sends again what is outstanding."""
        self.lost_records: tuple[str, ...] = ()
        """Topics whose retention has overtaken this shard: the same, and a person should know."""
        self._places: dict[str, Place] = dict(places)
        self._row_texts = {topic: _row_text(topic, place["id"], place["next"]) for topic, place in places.items()}
        """Topic to its part of the row as it is now. JSON is built for what has moved only."""
        self._topics_text: str | None = None
        """All of them; None after one has changed."""
        self._behind: dict[str, int] = {}
        self.looked_for_released_at = 0
        """Microseconds since 1970: when it was last asked whether a person has released what is parked."""

    @property
    def relay_position(self) -> int:
        """Every message up to here has been published (or parked)."""
        return self.relay.position

    @property
    def caught_up(self) -> bool:
        """Every topic has been taken in up to its end as it was at the take; timers may fire from here on (H4)."""
        return not self._behind

    @property
    def behind(self) -> Mapping[str, int]:
        """Topics not yet taken in up to that end, and the end."""
        return self._behind

    @property
    def places(self) -> dict[TopicPartition, int]:
        """Where each of its partitions is to be read from."""
        return {TopicPartition(topic, self.shard): offset for topic, offset in self.offsets.items()}

    def request_turn(self) -> None:
        """Have a turn soon, though no record has come and no timer is due."""
        self.turn_requested = True
        self.when_requested()

    def locate(self, logs: Mapping[str, Log]) -> None:
        """Find the places of this shard in the logs as Kafka has them (S6).

        The logs must have been looked at after the take: before it, an older owner might still have moved on.
        What this finds is stored by the first turn, together with whatever a side sends again because of it.
        """
        new, lost = [], []
        for topic, log in logs.items():
            known = self._places.get(topic)
            self.offsets[topic] = log.start
            if known is None:
                continue
            if known["id"] != log.id or known["next"] > log.end:
                new.append(topic)
            elif known["next"] < log.start:
                lost.append(topic)
            else:
                self.offsets[topic] = known["next"]
        self.new_logs, self.lost_records = tuple(new), tuple(lost)
        self._places.update({topic: Place(id=log.id, next=self.offsets[topic]) for topic, log in logs.items()})
        self._rewrite(logs)
        self._behind = {topic: log.end for topic, log in logs.items() if self.offsets[topic] < log.end}

    def skip_to_end(self, topic: str) -> None:
        """The stream has been read to that end, though no record was there to move the offset (control records)."""
        self._behind.pop(topic, None)

    def strayed(self, logs: Mapping[str, Log], before: Mapping[str, int]) -> bool:
        """Whether a log has been replaced or cut under a running tenure.

        `before` are the offsets from before the logs were looked at: the end may have been passed since.
        """
        return any(
            self._places[topic]["id"] != log.id or before[topic] > log.end or self.offsets[topic] < log.start
            for topic, log in logs.items()
            if topic in before
        )

    def reached(self, offsets: Iterable[tuple[str, int]]) -> None:
        """These topics have been taken in up to there, be it that there was nothing to take in."""
        for topic, offset in offsets:
            if self.offsets.get(topic) != offset:
                self.offsets[topic] = offset
                self._rewrite([topic])
            if offset >= self._behind.get(topic, offset + 1):
                del self._behind[topic]

    def places_after(self, offsets: Mapping[str, int]) -> str:
        """The row's `topics` with these offsets, as JSON. Topics that are no longer read keep their place."""
        if offsets:
            moved = {topic: _row_text(topic, self._places[topic]["id"], offset) for topic, offset in offsets.items()}
            return _object({**self._row_texts, **moved})
        if self._topics_text is None:
            self._topics_text = _object(self._row_texts)
        return self._topics_text

    def _rewrite(self, topics: Iterable[str]) -> None:
        self._row_texts |= {topic: _row_text(topic, self._places[topic]["id"], self.offsets[topic]) for topic in topics}
        self._topics_text = None

    def __repr__(self) -> str:
        state = "ended" if self.ended else "caught up" if self.caught_up else f"behind in {', '.join(self._behind)}"
        return f"<tenure of shard {self.shard}, turn {self.turn}, {state}>"


def _object(texts: Mapping[str, str]) -> str:
    return f"{{{', '.join(texts.values())}}}"


def _nobody() -> None:
    """A tenure outside of an ownership: whoever has it gives it turns."""

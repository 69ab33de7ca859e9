"""One batch of inputs on its way into the database and out to Kafka.

A side collects in it what it has decided, then writes its own rows and this in one transaction, then reports the
commit. Everything is built and encoded before the transaction begins, where that can be: a process that is stopped
within a transaction holds its shards' rows (S4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from sagabus.contracts.envelope import Message, Record
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.publishing import dead_letter, outbox
from sagabus.messaging.publishing.dead_letter import DeadLetters
from sagabus.messaging.publishing.dead_letter_log import DeadLetterLog
from sagabus.messaging.publishing.outbox import Published, Released
from sagabus.messaging.publishing.relay import Parking, Positioned
from sagabus.messaging.shards import shard_row
from sagabus.messaging.shards.tenure import Tenure

LOOK_FOR_RELEASED_SECONDS: Final = 1.0
"""Between two looks whether a person has released what is parked (S8). A saga may stay parked for a month, and a look
costs a transaction."""

PUBLISHED_ROWS_KEPT: Final = 1_000
"""Published rows of a shard that wait to be deleted by a turn that has time, one without records. A busy shard has none
for long: with so many, the turn at hand deletes them. It bounds what the outbox keeps beyond what is unpublished."""


class TurnMark(NamedTuple):
    """How much there was of each."""

    messages: Mapping[Tenure, int]
    letters: int
    told: tuple[int, Counter[str]]


class Turn:
    """Decide, then `write` in a transaction that is committed, then `committed`. For one use.

    work: the records of each tenure that this turn takes in, those that become dead letters included; an empty sequence
    where there is none (a timer, a beat). at: microseconds since 1970, the turn's time.
    """

    def __init__(
        self, work: Mapping[Tenure, Sequence[Record]], *, schema: str, dead_letters: DeadLetters, at: int
    ) -> None:
        self.at = at
        self._schema = schema
        self._dead_letters = dead_letters
        self._shares = {tenure: _Share(tenure, records) for tenure, records in work.items()}
        self._letters: list[dead_letter.DeadLetterRow] = []
        self._deleted: dict[Tenure, int] = {}
        self._told = DeadLetterLog(dead_letters.by)

    @property
    def tenures(self) -> Collection[Tenure]:
        """Whose turn it is."""
        return self._shares.keys()

    def send(self, tenure: Tenure, message: Message) -> None:
        """Publish this after the commit, in the order of calls."""
        share = self._shares[tenure]
        share.messages.append((tenure.next_position + len(share.messages), message))

    def send_all(self, tenure: Tenure, messages: Sequence[Message]) -> None:
        """The same of several."""
        sent = self._shares[tenure].messages
        sent += enumerate(messages, tenure.next_position + len(sent))

    def dead_letter(self, tenure: Tenure, record: Record, *, reason: str, message: str) -> None:
        """Keep a record that cannot be understood, as a row and on the dead-letter topic. `reason` is a stable code."""
        self._told.take(record, reason=reason, message=message)
        self._letters.append(dead_letter.row_of(tenure.shard, record, reason=reason, message=message))
        self.send(tenure, self._dead_letters.message(record, reason=reason, message=message, at=self.at))

    def mark(self) -> TurnMark:
        """Where it stands: `back_to` takes back what is sent and kept from here on."""
        messages = {tenure: len(share.messages) for tenure, share in self._shares.items()}
        return TurnMark(messages, len(self._letters), self._told.mark())

    def back_to(self, mark: TurnMark) -> None:
        """After a `write` that was rolled back, say, where a part has to be decided again."""
        for tenure, sent in mark.messages.items():
            del self._shares[tenure].messages[sent:]
        del self._letters[mark.letters :]
        self._told.back_to(mark.told)

    def parked(self, tenure: Tenure) -> Sequence[Parking]:
        """What this turn parks because it can never be published: these sagas need a person's attention (S8)."""
        return self._shares[tenure].parkings

    @property
    def may_release(self) -> bool:
        """Whether `release` has anything to look for: usually not, and then it asks the database nothing.

        While something is parked, a look is due once in LOOK_FOR_RELEASED_SECONDS, not with each turn.
        """
        return any(tenure.relay.parked and self._look_is_due(tenure) for tenure in self._shares)

    async def release(self, connection: Connection) -> Mapping[Tenure, Mapping[str, str]]:
        """Send again what a person has released from `outbox_parked` (S8). To be called once, before any `send`.

        Gives the sagas, and the person's word for each.

        In any transaction before the one that is written: the rows are this shard's owner's, and nobody else takes
        them away. A saga of which more is on its way to `outbox_parked` waits for the next turn, so its order is kept.
        """
        waiting = {tenure.shard: tenure for tenure in self._shares if tenure.relay.parked}
        if waiting:
            for tenure in waiting.values():
                tenure.looked_for_released_at = self.at
            for row in await outbox.released(connection, self._schema, list(waiting)):
                tenure = waiting[row.shard]
                if self._shares[tenure].take_back(row):
                    self.send(tenure, row.message)
                else:
                    tenure.looked_for_released_at = 0
        return {tenure: share.released for tenure, share in self._shares.items() if share.released}

    def _look_is_due(self, tenure: Tenure) -> bool:
        since = self.at - tenure.looked_for_released_at  # negative where the clock was set back
        return not 0 <= since < LOOK_FOR_RELEASED_SECONDS * 1_000_000

    @property
    def sent(self) -> list[tuple[int, int, Message]]:
        """Shard, position and message of all that it sends."""
        shares = self._shares.items()
        return [(tenure.shard, position, message) for tenure, share in shares for position, message in share.messages]

    def advances(self) -> Sequence[shard_row.Advance]:
        """What the shard rows are to become."""
        return [share.advance(tenure) for tenure, share in self._shares.items()]

    @property
    def sends_only(self) -> bool:
        """Whether `write` would do no more than advance the shard rows and insert `sent`."""
        return self.is_usual and not self._to_delete()

    @property
    def is_usual(self) -> bool:
        """The same, or also delete published rows."""
        return not (self._letters or any(share.parkings or share.unparked for share in self._shares.values()))

    def take_deletes(self) -> Sequence[Published]:
        """The published rows that are deleted with this turn, by whoever asks: `committed` takes them for deleted."""
        self._deleted = self._to_delete()
        return [Published(tenure.shard, tenure.deleted_to, position) for tenure, position in self._deleted.items()]

    def encoded(self) -> memoryview | None:
        """The outbox rows of all that it sends, for `write`; None if it sends nothing."""
        sent = self.sent
        return outbox.encoded(sent) if sent else None

    async def write(self, connection: Connection, rows: memoryview | None = None) -> None:
        """Advance the shard rows, and write what this turn sends and keeps. Raises Fenced.

        First in the transaction, or last in one that has begun with `shard_row.holding`. rows: as `encoded` has
        made them before the transaction began; a turn whose handlers run within it makes them here.
        """
        shares = self._shares
        await shard_row.advance(connection, self._schema, self.advances())
        rows = rows or self.encoded()
        if rows:
            await outbox.append(connection, self._schema, rows)
        if self._letters:
            await dead_letter.append(connection, self._schema, self._letters)
        for tenure, share in shares.items():
            await outbox.park(connection, self._schema, tenure.shard, share.parkings)
            if share.unparked:
                await outbox.unpark(connection, self._schema, tenure.shard, share.unparked)
        if done := self.take_deletes():
            await outbox.delete_published(connection, self._schema, done)

    def _to_delete(self) -> dict[Tenure, int]:
        """The position up to which rows are deleted now: of all tenures in a turn without records, else of the full."""
        room = PUBLISHED_ROWS_KEPT if any(share.offsets for share in self._shares.values()) else 1
        shares = self._shares.items()
        return {tenure: share.relayed for tenure, share in shares if share.relayed >= tenure.deleted_to + room}

    def committed(self) -> None:
        """The transaction is known to be committed: the tenures move on, their relays publish."""
        for tenure, share in self._shares.items():
            share.settle(tenure)
        for tenure, position in self._deleted.items():
            tenure.deleted_to = position
        self._told.tell()


class _Share:
    """What a turn does to one of its tenures. What the relay has done is looked at once, when the turn begins."""

    __slots__ = ("_parking", "messages", "offsets", "parkings", "relayed", "released", "unparked")

    def __init__(self, tenure: Tenure, records: Sequence[Record]) -> None:
        self.offsets = {record.topic: record.offset + 1 for record in records}  # in order: the last of a topic counts
        self.messages: list[Positioned] = []
        self.relayed = tenure.relay.position
        self.parkings = tuple(tenure.relay.parkings)
        self._parking = {one.saga_id for one in self.parkings}
        self.released: dict[str, str] = {}  # saga to a person's word
        self.unparked: list[int] = []  # positions in `outbox_parked`

    def take_back(self, row: Released) -> bool:
        """False if more of this saga is to be parked by this very turn: that would come to lie before it."""
        saga = row.message.saga_id
        if saga in self._parking:
            return False
        self.released[saga] = row.word
        self.unparked.append(row.position)
        return True

    def advance(self, tenure: Tenure) -> shard_row.Advance:
        next_position = tenure.next_position + len(self.messages)
        return shard_row.Advance(tenure, next_position, self.relayed, tenure.places_after(self.offsets))

    def settle(self, tenure: Tenure) -> None:
        tenure.turn += 1
        tenure.next_position += len(self.messages)
        tenure.relay_stored = self.relayed
        tenure.new_logs = tenure.lost_records = ()
        tenure.reached(self.offsets.items())
        del tenure.relay.parkings[: len(self.parkings)]
        tenure.relay.unpark(self.released)
        tenure.relay.push(self.messages)

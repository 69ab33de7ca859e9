"""What a turn writes of sagas, in its transaction: each table at most once, and only where there is something to write.

The statements are those of whole batches, COPY and `unnest`, made once for a schema. Nothing here begins or ends a
transaction, and nothing retries: the fence comes before (S1), the commit after.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any

from sagabus.contracts.errors import SagabusError
from sagabus.contracts.names import SagaId
from sagabus.coordinator.store.columns import (
    CHANGED,
    CHANGES,
    EARLY,
    EARLY_KEY,
    SAGA,
    SAGA_REF,
    STARTED,
    TIMER,
    TIMER_KEY,
)
from sagabus.coordinator.store.copy_format import HISTORY_COLUMNS, NewHistory
from sagabus.coordinator.store.rows import EarlyRef, EarlyRequest, SagaKey, SagaRef, SagaRow, StartedId, TimerRef
from sagabus.coordinator.store.wire import LATEST, Arguments, Columns, arguments, assigned, quoted, unnest, written
from sagabus.messaging.postgres import binary_copy
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.statements import named_statements
from sagabus.messaging.postgres.tables import qualified


class SagaExists(SagabusError):
    """A saga that was to be made is there already, or its id has another open run, or it is not as new as presumed.

    Roll back, and read again. keys: those that were not made; with one that was presumed new, all of them.
    """

    def __init__(self, keys: Sequence[SagaKey]) -> None:
        super().__init__(f"there is already a saga {', '.join(f'{key.id} (run {key.run})' for key in keys[:5])}")
        self.keys = tuple(keys)


class SagaMissing(SagabusError):
    """A saga that was to be changed is not there: its row was deleted, or the database was set back. Roll back."""


@dataclass(slots=True)
class Writes:
    """What a turn of any number of shards has decided. Of two rows for the same saga the later one counts.

    timers: due in microseconds since 1970, None for one that is to go. timers_dropped: sagas of which all timers go,
    before these are set. changed_sagas: all columns but those in `FIXED`.
    A saga made in this turn stands in new_sagas alone. presumed_new: ids among those that nobody looked for: none of
    them may have a row, of whatever run, or be remembered (H2). An early request may be both added and removed; its
    number must not be given again in the same turn. ended_losses: shards whose open sagas have all been gone through
    after a loss of the bus (S6); here, since it has to stand behind the fence (S1).
    """

    history: NewHistory = field(default_factory=NewHistory)
    new_sagas: list[SagaRow] = field(default_factory=list)
    presumed_new: list[SagaId] = field(default_factory=list)
    changed_sagas: list[SagaRow] = field(default_factory=list)
    timers_dropped: list[SagaRef] = field(default_factory=list)
    timers: dict[TimerRef, int | None] = field(default_factory=dict)
    early_added: list[EarlyRequest] = field(default_factory=list)
    early_removed: list[EarlyRef] = field(default_factory=list)
    started_ids: list[StartedId] = field(default_factory=list)
    ended_losses: list[int] = field(default_factory=list)

    def encoded(self) -> Encoded:
        """All that is to be computed, done. To be called before the transaction begins (S4)."""
        return Encoded(
            changed=self.changed(),
            created=self.created(),
            presumed_new=[*self.presumed_new],
            history=self.history.encoded(),
            timers_dropped=_columns(SAGA_REF, self.timers_dropped),
            timers_set=self.timers_set(),
            timers_cleared=self.timers_cleared(),
            early_added=_columns(EARLY, map(_early, self.early_added)),
            early_removed=_columns(EARLY_KEY, self.early_removed),
            started_ids=_columns(STARTED, map(_started, {one.id: one for one in self.started_ids}.values())),
            ended_losses=([*self.ended_losses],) if self.ended_losses else None,
        )

    def changed(self) -> Arguments | None:
        """Of `CHANGED`."""
        return _columns(CHANGED, map(_changed, _latest(self.changed_sagas)))

    def created(self) -> Arguments | None:
        """Of `SAGA`."""
        return _columns(SAGA, map(_created, _latest(self.new_sagas)))

    def timers_set(self) -> Arguments | None:
        """Of `TIMER`."""
        return _columns(TIMER, [(*ref, min(due, LATEST)) for ref, due in self.timers.items() if due is not None])

    def timers_cleared(self) -> Arguments | None:
        """Of `TIMER_KEY`."""
        return _columns(TIMER_KEY, [ref for ref, due in self.timers.items() if due is None])

    @property
    def is_usual(self) -> bool:
        """Whether only sagas, history and single timers are written, and no new saga has the id of a changed one."""
        rare = self.timers_dropped or self.early_added or self.early_removed or self.started_ids or self.ended_losses
        return not rare and {row.id for row in self.new_sagas}.isdisjoint(row.id for row in self.changed_sagas)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Writes as they go to PostgreSQL. None: nothing to do there."""

    changed: Arguments | None
    created: Arguments | None
    presumed_new: list[SagaId]
    history: memoryview | None
    timers_dropped: Arguments | None
    timers_set: Arguments | None
    timers_cleared: Arguments | None
    early_added: Arguments | None
    early_removed: Arguments | None
    started_ids: Arguments | None
    ended_losses: Arguments | None


class Store:
    """The writing side of one schema."""

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self._sql = _statements(schema)

    async def write(self, connection: Connection, writes: Writes | Encoded) -> None:
        """All of it, in the transaction that the connection is in. At most one round trip a table and verb.

        Raises SagaExists or SagaMissing; the transaction is then to be given up.
        """
        encoded = writes.encoded() if isinstance(writes, Writes) else writes
        await self._write_sagas(connection, encoded)
        if encoded.history is not None:
            await binary_copy.copy(connection, self.schema, "history", HISTORY_COLUMNS, encoded.history)
        for name, given in (
            ("timer.drop", encoded.timers_dropped),
            ("timer.clear", encoded.timers_cleared),
            ("timer.set", encoded.timers_set),
            ("early_request.add", encoded.early_added),
            ("early_request.remove", encoded.early_removed),
            ("started_id.keep", encoded.started_ids),
            ("shard_owner.end_loss", encoded.ended_losses),
        ):
            if given is not None:
                await connection.execute(self._sql[name], *given)

    async def _write_sagas(self, connection: Connection, encoded: Encoded) -> None:
        """Changed ones first: a run that ends makes room for the next run of its id."""
        if encoded.changed is not None:
            wanted = len(encoded.changed[0])
            done = await connection.execute(self._sql["saga.change"], *encoded.changed)
            if done != f"UPDATE {wanted}":
                raise SagaMissing(f"{done} instead of {wanted}: a saga is not there any more; read it again")
        if encoded.created is not None:
            made = await connection.fetch(self._sql["saga.create"], *encoded.created, encoded.presumed_new)
            if len(made) != len(encoded.created[0]):
                there = {(row["id"], row["run"]) for row in made}
                raise SagaExists([key for key in keys_of(encoded.created) if key not in there])


def keys_of(created: Arguments) -> list[SagaKey]:
    """Of these columns of sagas."""
    return [SagaKey(*key) for key in zip(created[0], created[1], strict=True)]


_created = attrgetter(*(one.name for one in fields(SagaRow)))
_changed = attrgetter(*CHANGED)
_early = attrgetter(*(one.name for one in fields(EarlyRequest)))
_started = attrgetter(*STARTED)


def _latest(rows: Iterable[SagaRow]) -> Iterable[SagaRow]:
    return {(row.id, row.run): row for row in rows}.values()


def _columns(columns: Columns, rows: Iterable[Sequence[Any]]) -> Arguments | None:
    listed = list(rows)
    return arguments(columns, listed) if listed else None


def known(schema: str, ids: str) -> str:
    """SQL: whether any of these ids has a saga, of whatever run, or had one (H2)."""
    saga, started = qualified(schema, "saga"), qualified(schema, "started_id")
    return f"""(
        EXISTS (SELECT FROM {saga} AS known WHERE known.id = ANY ({ids}::text[]))
        OR EXISTS (SELECT FROM {started} AS known WHERE known.id = ANY ({ids}::text[])))"""


@named_statements
def _statements(schema: str) -> dict[str, str]:
    saga, timer, early, started, owner = (
        qualified(schema, name) for name in ("saga", "timer", "early_request", "started_id", "shard_owner")
    )
    presumed = f"${len(SAGA) + 1}"
    return {
        "saga.create": f"""
            INSERT INTO {saga} ({quoted(SAGA)}) SELECT {written(SAGA)} FROM {unnest(SAGA)}
            WHERE NOT {known(schema, presumed)}
            ON CONFLICT DO NOTHING RETURNING id, run""",
        "saga.change": f"""
            UPDATE {saga} AS row SET {assigned(CHANGES)} FROM {unnest(CHANGED)}
            WHERE row.id = new.id AND row.run = new.run""",
        "timer.set": f"""
            INSERT INTO {timer} ({quoted(TIMER)}) SELECT {written(TIMER)} FROM {unnest(TIMER)}
            ON CONFLICT ({quoted(TIMER_KEY)}) DO UPDATE SET due = excluded.due""",
        "timer.drop": _deletion(timer, SAGA_REF),
        "timer.clear": _deletion(timer, TIMER_KEY),
        "early_request.add": f"INSERT INTO {early} ({quoted(EARLY)}) SELECT {written(EARLY)} FROM {unnest(EARLY)}",
        "early_request.remove": _deletion(early, EARLY_KEY),
        "started_id.keep": f"""
            INSERT INTO {started} ({quoted(STARTED)}) SELECT {written(STARTED)} FROM {unnest(STARTED)}
            ON CONFLICT (id)
            DO UPDATE SET run = excluded.run, input_hash = excluded.input_hash, until = excluded.until,
                shard = excluded.shard""",
        "shard_owner.end_loss": f"UPDATE {owner} SET lost_records = NULL WHERE shard = ANY ($1::int[])",
    }


def _deletion(table: str, key: Columns) -> str:
    same = " AND ".join(f'row."{name}" = new."{name}"' for name in key)
    return f"DELETE FROM {table} AS row USING {unnest(key)} WHERE {same}"

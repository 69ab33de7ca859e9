"""Lists of sagas, page by page. What a page costs is bounded, whatever is asked for and however many sagas there are.

A list walks one index: the sagas of a status by time of start, those on attention, or those whose id begins alike. What
no index knows is asked of each saga on the way; a page looks at EXAMINED of them at most. So it may hold fewer than
were asked for, or none, and still say where to go on.

By attributes, up to FEW sagas are found by their index and sorted. Where more have them, the walk by time meets some
of these soon, and each is asked on the way.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, NamedTuple

from sagabus.contracts import codec
from sagabus.coordinator.core.saga.concern import ConcernKind
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.store.attribute_search import Wanted, path_of
from sagabus.coordinator.store.columns import SAGA
from sagabus.coordinator.store.read import saga_row
from sagabus.coordinator.store.rows import SagaRow
from sagabus.coordinator.store.tables import OPEN
from sagabus.coordinator.store.wire import TIME, read
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.statements import named_statements
from sagabus.messaging.postgres.tables import qualified

EXAMINED: Final = 1_000
"""Sagas that one page looks at, where it has to look: some ten milliseconds."""

FEW: Final = 5_000
"""Sagas with the attributes that are asked for, which a page sorts: some ten milliseconds."""

_BEYOND: Final = "\U0010ffff"
"""Comes after every character of an id, as bytes compare."""


class ListCursor(NamedTuple):
    """Where a list of sagas goes on: after the last one that the page before has looked at. started_at in
    microseconds."""

    started_at: int
    id: str
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which sagas. Left out, a filter lets everything through. Times are microseconds since 1970."""

    statuses: Collection[SagaStatus] = ()
    definition: str | None = None
    attention: bool = False
    """Only those that need operator action."""
    concern: ConcernKind | None = None
    """Only those with a concern of this kind."""
    paused: bool = False
    """Only open ones that an operator has paused."""
    id_prefix: str = ""
    """Only those whose id begins so. The list is sorted by id then."""
    started_before: int | None = None
    updated_before: int | None = None
    """Only those that nothing has happened to since: the last row of history is older."""
    error: str | None = None
    """Only those that ended, or are being undone, with this error code."""
    attributes: tuple[Wanted, ...] = ()
    """Only those with all of these."""

    @property
    def looks_at_each(self) -> bool:
        """Whether the index that is walked also holds sagas that are not wanted."""
        rest: list[object] = [self.definition, self.concern, self.paused or None, self.updated_before, self.error]
        rest.append(self.attributes or None)
        if self.id_prefix:
            rest += [self.statuses or None, self.attention or None, self.started_before]
        elif self.attention:
            rest += [self.statuses or None]
        return any(one is not None for one in rest)


@dataclass(frozen=True, slots=True)
class Page:
    """next: where to go on; None at the end."""

    sagas: list[SagaRow]
    next: ListCursor | None


class SagaList:
    """Of one schema."""

    def __init__(self, schema: str) -> None:
        self._sql = _statements(schema)

    async def page(self, connection: Connection, wanted: Filter, *, limit: int, after: ListCursor | None) -> Page:
        """The newest first, or by id where a prefix is given; after that place."""
        window = max(EXAMINED, limit + 1) if wanted.looks_at_each else limit + 1
        path = path_of(wanted.attributes)
        walk = _walk(wanted)
        if path is not None and not wanted.id_prefix and await self._are_few(connection, path):
            walk = "saga.list_by_attributes"
        found = await connection.fetch(self._sql[walk], *_arguments(wanted, after), limit + 2, window, path)
        matching = [saga_row(list(row)[2:]) for row in found if row["matches"]]
        if len(matching) > limit:
            return Page(matching[:limit], _place(matching[limit - 1]))
        is_more = bool(found) and found[-1]["place"] == window
        return Page(matching, _place(saga_row(list(found[-1])[2:])) if is_more else None)

    async def _are_few(self, connection: Connection, path: str) -> bool:
        count: int = await connection.fetchval(self._sql["saga.count_attributes"], path, FEW + 1)
        return count <= FEW


def _place(row: SagaRow) -> ListCursor:
    return ListCursor(row.started_at, row.id, row.run)


def _walk(wanted: Filter) -> str:
    if wanted.id_prefix:
        return "saga.list_by_id"
    return "saga.attention" if wanted.attention or wanted.concern else "saga.list"


def _arguments(wanted: Filter, after: ListCursor | None) -> tuple[object, ...]:
    """$1 to $12. After the limits comes $15, the path of the attributes."""
    place: tuple[int | None, str, str] = after or (None, "", "")
    if wanted.started_before is not None and not wanted.id_prefix:
        place = min(ListCursor(wanted.started_before, "", ""), after or ListCursor(wanted.started_before, "", ""))
    concern = None if wanted.concern is None else codec.encode_value([{"kind": wanted.concern}]).decode()
    error = None if wanted.error is None else b'{"code":' + codec.encode_value(wanted.error)
    every = OPEN if wanted.paused else SagaStatus
    statuses = [status.value for status in wanted.statuses or every]
    return (
        statuses, *place, wanted.definition, wanted.attention or wanted.concern is not None, concern,
        wanted.id_prefix, wanted.started_before, wanted.updated_before, error, wanted.paused,
    )  # fmt: skip


_NEWEST: Final = "row.started_at DESC, row.id DESC, row.run DESC"
_BY_ID: Final = "row.id, row.run"


@named_statements
def _statements(schema: str) -> dict[str, str]:
    saga, history = (qualified(schema, name) for name in ("saga", "history"))
    moment = TIME.write.format
    older = f"""(row.started_at, row.id, row.run) < (coalesce({moment("$2::bigint")}, 'infinity'), $3::text, $4::text)
        ORDER BY {_NEWEST} LIMIT $14"""
    last = f"""(SELECT last.at FROM {history} AS last WHERE last.id = row.id AND last.run = row.run
        ORDER BY last.seq DESC LIMIT 1)"""
    # An error begins with its code, as `reason_json` writes it. It is compared as bytes: to read it as JSON would fail
    # for the whole list where one error holds what PostgreSQL's JSON refuses.
    matches = f"""row.status = ANY ($1::text[])
        AND ($5::text IS NULL OR row.definition = $5) AND (NOT $6::bool OR row.attention IS NOT NULL)
        AND ($7::text IS NULL OR row.concerns @> $7::jsonb) AND starts_with(row.id, $8::text)
        AND ($9::bigint IS NULL OR row.started_at < {moment("$9::bigint")})
        AND (NOT $12::bool OR row.paused)
        AND ($15::text IS NULL OR row.attributes @@ $15::text::jsonpath)
        AND ($11::bytea IS NULL OR substring(row.error FROM 1 FOR octet_length($11)) = $11)
        AND ($10::bigint IS NULL OR {last} < {moment("$10::bigint")})"""

    def with_attributes(path: str, columns: str) -> str:
        return f"""SELECT {columns} FROM {saga} AS row
            WHERE row.attributes IS NOT NULL AND row.attributes @@ {path}::text::jsonpath"""

    def listed(walk: str, order: str) -> str:
        return f"""
            SELECT row.matches, row.place, {read(SAGA, "row")} FROM (
                SELECT row.*, coalesce({matches}, false) AS matches, row_number() OVER (ORDER BY {order}) AS place
                FROM ({walk}) AS row
            ) AS row WHERE row.matches OR row.place = $14 ORDER BY {order} LIMIT $13"""

    return {
        "saga.list": listed(
            f"""SELECT row.* FROM unnest($1::text[]) AS wanted (status) CROSS JOIN LATERAL (
                SELECT row.* FROM {saga} AS row WHERE row.status = wanted.status AND {older}
            ) AS row ORDER BY {_NEWEST} LIMIT $14""",
            _NEWEST,
        ),
        # What is found is sorted afterwards: the planner is not to walk by time in the hope of meeting one soon.
        "saga.list_by_attributes": listed(
            f"""SELECT row.* FROM (
                    WITH found AS MATERIALIZED ({with_attributes("$15", "row.*")}) SELECT * FROM found
                ) AS row WHERE {older}""",
            _NEWEST,
        ),
        "saga.count_attributes": f"SELECT count(*) FROM ({with_attributes('$1', '')} LIMIT $2::int) AS row",
        "saga.attention": listed(
            f"SELECT row.* FROM {saga} AS row WHERE row.attention IS NOT NULL AND {older}", _NEWEST
        ),
        "saga.list_by_id": listed(
            f"""SELECT row.* FROM {saga} AS row
                WHERE row.id >= $8::text AND row.id < $8::text || '{_BEYOND}'
                AND (row.id, row.run) > ($3::text, $4::text)
                AND ($2::bigint IS NULL OR true)  -- a place by id needs no time; the parameter has to have a type
                ORDER BY {_BY_ID} LIMIT $14""",
            _BY_ID,
        ),
    }

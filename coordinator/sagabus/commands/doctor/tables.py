"""What the doctor asks PostgreSQL: is it there, and how do the tables and the sagas in them stand?"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from sqlalchemy import Column, MetaData, Table, Text

from sagabus.commands.doctor import processes, unanswered, unfinished
from sagabus.commands.doctor.finding import Report
from sagabus.commands.modules import Definition
from sagabus.contracts import names
from sagabus.coordinator.store import coordinator_tables, open_sagas
from sagabus.coordinator.store.migrations import schema_is_current
from sagabus.coordinator.store.owners import owners
from sagabus.messaging.postgres import condition
from sagabus.messaging.postgres.database import Connection, Database, DatabaseUnreachable
from sagabus.messaging.postgres.tables import messaging_tables
from sagabus.messaging.service.prerequisites import NotReady, check_encoding
from sagabus.messaging.settings import Settings

ANSWER_SECONDS: Final = 3.0
"""To wait for an answer."""

SKEW_SECONDS: Final = 1.0
"""By which clocks may differ. A saga's times are its owner's, and timers fire by them (H3)."""

STILL_SECONDS: Final = 10.0
"""Without a heartbeat, which comes every second, after which a shard counts as left alone."""

OTHERS_SHOWN: Final = 10
"""Names of services that were not looked at."""

DEEP_BACKLOG_MESSAGES: Final = 10_000
"""Messages of a schema that may wait for Kafka: half of what makes a shard take nothing more in (S9)."""


class Tables:
    """One look at the database. partitions: of the topics, as Kafka has them now."""

    def __init__(self, database: Database, settings: Settings, partitions: Mapping[str, int], report: Report) -> None:
        self._database = database
        self._settings = settings
        self._partitions = partitions
        self._report = report

    async def look(self, *, coordinator: bool, definitions: Sequence[Definition], services: Collection[str]) -> None:
        """coordinator: whether its schema is to be here too."""
        try:
            await self._database.wait_until_reachable(patience=ANSWER_SECONDS)
            async with self._database.transaction() as connection:
                await self._look(connection, coordinator, definitions, services)
        except DatabaseUnreachable as error:
            what = f"{error} ({self._database.address})"
            cure = "start it, or set SAGABUS_DATABASE; services wait for it and go on"
            self._report.found("database.away", what, cure, away=True)

    async def _look(
        self, connection: Connection, coordinator: bool, definitions: Sequence[Definition], services: Collection[str]
    ) -> None:
        self._report.figures["database"] = self._database.address
        await self._encoding(connection)
        await self._clock(connection)
        busy: set[int] = set()
        if coordinator and await self._usable(connection, coordinator_tables(self._settings.namespace)):
            busy = await self._sagas(connection, definitions)
            topic = names.requests_topic(self._settings.namespace)
            await self._schema(connection, self._settings.namespace, topic, busy, "a coordinator")
            await self._processes(connection)
        for service in sorted(services):
            if await self._usable(connection, _service_tables(service), service):
                schema, topic = names.service_schema(service), names.commands_topic(service)
                await self._schema(connection, schema, topic, None if busy else set(), f"the participant {service}")
        self._others(await condition.schemas_with(connection, "inbox"), services)

    def _others(self, schemas: Collection[str], services: Collection[str]) -> None:
        """schemas: of all services in this database."""
        begins = names.service_schema("")
        there = (schema.removeprefix(begins) for schema in schemas if schema.startswith(begins))
        if others := [service for service in there if service not in services]:
            shown = ", ".join(others[:OTHERS_SHOWN])
            more = f" and {len(others) - OTHERS_SHOWN} more" if len(others) > OTHERS_SHOWN else ""
            what = f"the tables of {shown}{more} in this database were not looked at, nor their dead letters"
            self._report.hints.append(f"{what}: `sagabus doctor MODULE…` with the modules of these, or --service NAME")

    async def _encoding(self, connection: Connection) -> None:
        try:
            check_encoding(await condition.encoding(connection))
        except NotReady as error:
            what, _, cure = str(error).partition("; ")
            self._report.found("database.encoding", what, cure)

    async def _processes(self, connection: Connection) -> None:
        """Of the shards that have a heartbeat: whoever had the others may be gone."""
        schema = self._settings.namespace
        beating = {one.shard for one in await condition.shards(connection, schema) if one.still <= STILL_SECONDS}
        processes.compare([one for one in await owners(connection, schema) if one.shard in beating], self._report)

    async def _clock(self, connection: Connection) -> None:
        before = time.time()
        there = await condition.clock(connection)
        after = time.time()
        # The answer was given somewhere between the two readings.
        skew = there - after if there > after else min(0.0, there - before)
        self._report.figures["clock_skew"] = round(skew, 3)
        if abs(skew) > SKEW_SECONDS:
            what = f"this machine's clock and the database's differ by {abs(skew):.1f} s"
            self._report.found("clock.skew", what, "run NTP on both: timers fire by the clock of their owner")

    async def _usable(self, connection: Connection, wanted: MetaData, service: str = "") -> bool:
        """Whether the schema can be looked into."""
        assert wanted.schema is not None
        schema = wanted.schema
        missing = await condition.missing(connection, wanted)
        behind = not service and not missing and not await self._current(connection, schema)
        if missing or behind:
            what = f"the schema {schema} is missing or behind: {', '.join(missing) or 'an older release made it'}"
            self._report.found("schema.behind", what, await self._migrate(connection, service))
            return False
        rights = await condition.missing_rights(connection, schema, [table.name for table in wanted.sorted_tables])
        if rights:
            role = await condition.role(connection)
            what = f"the role {role} has no right to the schema {schema}: {', '.join(rights)}"
            cure = "use the role that ran `sagabus migrate`, or grant these rights to yours"
            self._report.found("rights.missing", what, cure)
        return not rights

    async def _current(self, connection: Connection, schema: str) -> bool:
        if await condition.missing_rights(connection, schema, []):
            return True  # what cannot be read is told as a right that is missing
        return await schema_is_current(connection, schema)

    async def _migrate(self, connection: Connection, service: str) -> str:
        cure = f"run `sagabus migrate{f' MODULE` with the module of the participant {service}' if service else '`'}"
        if await condition.may_make_schemas(connection):
            return cure
        return f"{cure}, as a role that may CREATE in this database: {await condition.role(connection)} may not"

    async def _schema(self, connection: Connection, schema: str, topic: str, busy: set[int] | None, who: str) -> None:
        """busy: the shards that have work; None: any may have."""
        shards = await condition.shards(connection, schema)
        self._changed(schema, topic, shards)
        still = [one for one in shards if one.still > STILL_SECONDS and (busy is None or one.shard in busy)]
        if still and (busy is not None or len(still) == len(shards)):
            listed = ", ".join(str(one.shard) for one in still)
            since = f"no heartbeat for over {STILL_SECONDS:.0f} s"
            what = f"sagas are open, and nobody works on the shards {listed} of {schema}: {since}"
            self._report.found("shards.still", what, f"start {who}, or look why its log says that it takes no shards")
        if foreign := await condition.untouchable_roles(connection, schema):
            role = await condition.role(connection)
            what = f"the role {role} may not end sessions of {', '.join(foreign)}, which holds shards of {schema} (S4)"
            cure = f"let all of them use one role, or GRANT pg_signal_backend TO {role}"
            self._report.found("rights.terminate", what, cure)
        self._backlog(schema, await condition.backlog(connection, schema))

    def _changed(self, schema: str, topic: str, shards: Sequence[condition.ShardState]) -> None:
        now, stored = self._partitions.get(topic), sorted({one.partitions for one in shards})
        if now is None or stored in ([], [now]):
            return
        was = " and ".join(map(str, stored))
        what = f"{topic} has {now} partitions, and sagas of {schema} were placed by {was} (S11)"
        if schema == self._settings.namespace:
            cure = f"put the topic back with {stored[0]} partitions, or begin a new namespace beside it"
        else:
            cure = (
                f"stop the participant, delete {topic} and make it again with {stored[0]} partitions: coordinators "
                "send again what is unanswered"
            )
        if len(stored) > 1:
            cure += f"; then, while nothing runs on it, UPDATE {schema}.shard SET partitions = {stored[0]}"
        self._report.found("partitions.changed", what, cure)

    def _backlog(self, schema: str, backlog: condition.Backlog) -> None:
        option = "" if schema == self._settings.namespace else f" --service {schema.removeprefix('sagabus_')}"
        self._report.figures[schema] = {
            "unpublished": backlog.unpublished, "parked": backlog.parked, "dead_letters": backlog.dead_letters,
        }  # fmt: skip
        if backlog.unpublished > DEEP_BACKLOG_MESSAGES:
            what = f"{backlog.unpublished} messages of {schema} wait to be published"
            self._report.found(
                "outbox.deep", what, "look whether Kafka is slow, or the owner of the shard is not running"
            )
        if backlog.parked:
            count, one = backlog.parked, backlog.parked == 1
            those = f"1 message of {schema} is" if one else f"{count} messages of {schema} are"
            what = f"{those} parked, since Kafka would not take them"
            then = "then `sagabus dead-letters unpark --all --reason WHY`"
            cure = f"cure what `sagabus dead-letters parked{option}` names, {then}"
            self._report.found("outbox.parked", what, cure)
        if backlog.dead_letters:
            what = f"{backlog.dead_letters} dead letter{'s' if backlog.dead_letters != 1 else ''} of {schema}"
            cure = f"look at them with `sagabus dead-letters list{option}`, then replay or drop them"
            self._report.found("dead_letters", what, cure)

    async def _sagas(self, connection: Connection, definitions: Sequence[Definition]) -> set[int]:
        """The shards with open sagas."""
        namespace = self._settings.namespace
        running = await open_sagas.running(connection, namespace)
        self._report.figures["open_sagas"] = sum(one.count for one in running)
        known = {(one.name, one.version) for one in definitions}
        for one in running if definitions else ():
            if (one.definition, one.version) not in known:
                those = f"{one.count} open saga{'s' if one.count != 1 else ''}"
                what = f"{those} of {one.definition} version {one.version}, which these modules do not have"
                cure = (
                    "run a coordinator with that version's code as well, until they have ended; or, is the name "
                    f"mistyped? `sagabus list --saga {one.definition}` lists them, `sagabus cancel ID --reason WHY` "
                    "ends one"
                )
                self._report.found("definition.missing", what, cure)
        await unfinished.look(connection, namespace, self._report)
        await unanswered.look(connection, namespace, self._report)
        return await open_sagas.their_shards(connection, namespace)


def _service_tables(service: str) -> MetaData:
    """Of its inbox no more than the name: the participants' side keeps the rest to itself."""
    metadata = messaging_tables(names.service_schema(service))
    Table("inbox", metadata, Column("source", Text), Column("id", Text))
    return metadata

"""`migrate` and `topics`: make what the services need, once, before they run."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from sagabus.commands import modules
from sagabus.commands.subcommand import Exit, Failed, Subcommand, say, say_json
from sagabus.contracts import names
from sagabus.contracts.activity import Service
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.bus.topic_admin import TopicInfo, TopicSpec
from sagabus.messaging.postgres import condition
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.service.backing import find_backing
from sagabus.messaging.service.participation import Participation
from sagabus.messaging.service.prerequisites import check_encoding, coordinator_topics, participant_topics
from sagabus.messaging.settings import Settings, load_settings

ANSWER_SECONDS: Final = 10.0
"""To wait for a server that does not answer."""


async def run_migrate(options: Namespace) -> Exit:
    backing = find_backing(load_settings(require=("database",)))
    participants = modules.participants(options.modules) if options.modules else []
    settings = backing.settings
    others = [names.service_schema(one.service.name) for one in participants]
    there = await _there(settings, [settings.namespace, *others])
    try:
        changed = await migrate(settings.database, settings.namespace)
        await make_tables(settings, participants, business=options.tables)
    except DBAPIError as error:
        raise Failed(Exit.REFUSED, f"PostgreSQL declines: {error.orig}") from error
    made = [schema for schema in (settings.namespace, *others) if schema not in there]
    if options.json:
        say_json({"schema": settings.namespace, "changed": changed, "participants": others, "made": made})
        return Exit.DONE
    for schema in (settings.namespace, *others):
        was_behind = changed and schema == settings.namespace
        done = "made" if schema in made else "brought up to date" if was_behind else "is up to date"
        say(f"schema {schema}: {done}")
    return Exit.DONE


async def make_tables(settings: Settings, participants: Sequence[Participation], *, business: bool) -> None:
    """The participants' own tables, and on request those of their authors, in one transaction for each. Repeatable."""
    engine = create_async_engine(settings.sqlalchemy_url)
    try:
        for one in participants:
            async with engine.begin() as connection:
                await one.create_tables(connection)
                if business and one.tables is not None:
                    await connection.run_sync(one.tables.create_all)
    finally:
        await engine.dispose()


async def _there(settings: Settings, schemas: Sequence[str]) -> set[str]:
    """Those that have tables. Raises DatabaseUnreachable, and NotReady for a database that cannot hold all text."""
    database = Database(settings.database)
    try:
        await database.wait_until_reachable(patience=ANSWER_SECONDS)
        async with database.transaction() as connection:
            check_encoding(await condition.encoding(connection))
            return await condition.schemas(connection, schemas)
    finally:
        await database.stop()


async def run_topics(options: Namespace) -> Exit:
    settings = load_settings(require=("kafka",))
    services = modules.services(options.modules)
    kafka = find_backing(settings).kafka
    await kafka.wait_until_reachable(patience=ANSWER_SECONDS)
    wanted = topics_of(services, settings.namespace)
    there = await kafka.topics(wanted)
    if not kafka.embedded:
        _check(there, settings.partitions)
    spec = TopicSpec(settings.partitions, settings.replication)
    made = await kafka.create_topics({name: spec for name in wanted if name not in there})
    found = there | made
    if options.json:
        say_json({name: {"partitions": topic.partitions, "made": name in made} for name, topic in found.items()})
    else:
        for name in wanted:
            say(f"{name}: {'made' if name in made else 'is there'}, {found[name].partitions} partitions")
    return Exit.DONE


def topics_of(services: Iterable[Service], namespace: str) -> list[str]:
    """What a coordinator and these services read and write, sorted."""
    own = coordinator_topics(namespace)
    return sorted(own.union(*(participant_topics(service, namespace) for service in services)))


def _check(there: Mapping[str, TopicInfo], partitions: int) -> None:
    """A number of partitions is for ever: it decides which saga belongs to which shard (S11)."""
    others = [f"{one.name} has {one.partitions}" for one in there.values() if one.partitions != partitions]
    if others:
        counts = sorted({topic.partitions for topic in there.values()})
        cure = f"set SAGABUS_PARTITIONS={counts[0]}" if len(counts) == 1 else "delete those that hold nothing yet"
        raise Failed(
            Exit.REFUSED,
            f"topics with another number of partitions than {partitions}: {', '.join(sorted(others))}; {cure}",
        )


def _migrate_arguments(place: ArgumentParser) -> None:
    place.add_argument("modules", nargs="*", metavar="MODULE[:OBJECT]", help="where participants are made")
    place.add_argument(
        "--tables", action="store_true", help="also the business tables that participants name, for tests"
    )
    place.add_argument("--json", action="store_true", help="one JSON object")


def _topics_arguments(place: ArgumentParser) -> None:
    place.add_argument("modules", nargs="+", metavar="MODULE[:OBJECT]", help="sagas, participants, or contracts")
    place.add_argument("--json", action="store_true", help="one JSON object")


SUBCOMMANDS: Final = (
    Subcommand(
        name="migrate",
        about=(
            "Makes the coordinator's schema in SAGABUS_DATABASE, or brings it up to date, and the schemas of the "
            "participants that these modules make. May be repeated, and run by several processes at once."
        ),
        examples={
            "sagabus migrate": "the coordinator's schema",
            "sagabus migrate shop.inventory shop.payment": "that, and the inboxes of two services",
        },
        arguments=_migrate_arguments,
        run=run_migrate,
    ),
    Subcommand(
        name="topics",
        about=(
            "Makes the topics that these modules need, with SAGABUS_PARTITIONS (12) and SAGABUS_REPLICATION (1). "
            "Those that are there stay as they are; one with another number of partitions is refused."
        ),
        examples={
            "sagabus topics shop.contracts": "those of the coordinator, and of every service in the contracts",
            "SAGABUS_PARTITIONS=48 SAGABUS_REPLICATION=3 sagabus topics shop.contracts": "for a cluster",
        },
        arguments=_topics_arguments,
        run=run_topics,
    ),
)

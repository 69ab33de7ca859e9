"""`migrate` and `topics`: make what the services need, once, before they run."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Final

from sagabus.commands.subcommand import Exit, Subcommand


async def _migrate(options: Namespace) -> Exit:
    from sagabus.commands.setup.tables import run_migrate

    return await run_migrate(options)


async def _topics(options: Namespace) -> Exit:
    from sagabus.commands.setup.topics import run_topics

    return await run_topics(options)


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
        run=_migrate,
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
        run=_topics,
    ),
)

"""`doctor`: looks at everything that the services need, and names each fault with its cure. Changes nothing."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Final

from sagabus.commands.subcommand import Exit, Subcommand


async def run(options: Namespace) -> Exit:
    from sagabus.commands.doctor.examination import run_doctor

    return await run_doctor(options)


def _arguments(place: ArgumentParser) -> None:
    what = "sagas, contracts and participants: which definitions, topics and tables there should be"
    place.add_argument("modules", nargs="*", metavar="MODULE[:OBJECT]", help=what)
    named = "a service whose tables are in SAGABUS_DATABASE, where its module is not available; may be repeated"
    place.add_argument("--service", action="append", default=[], metavar="NAME", help=named)
    only = "SAGABUS_DATABASE holds services and no coordinator"
    place.add_argument("--services-only", action="store_true", help=only)
    place.add_argument("--json", action="store_true", help="one JSON object")


SUBCOMMANDS: Final = (
    Subcommand(
        name="doctor",
        about=(
            "Looks for what is wrong and says how to cure it: servers that are unreachable, topics and tables that are "
            "missing or not as they should be, rights, clocks, sagas that nobody works on or that need operator "
            "action, dead letters, parked messages. Changes nothing. Exit code 0: all is well. 6: something was found. "
            "3: a server is unreachable."
        ),
        examples={
            "sagabus doctor": "the coordinator's topics and tables, and its sagas",
            "sagabus doctor shop.order_processing shop.inventory shop.payment shop.shipping":
                "also whether open sagas have their definitions, and the tables of these participants",
            "sagabus doctor --services-only --service inventory": "in the database of one service",
        },
        arguments=_arguments,
        run=run,
    ),
)  # fmt: skip

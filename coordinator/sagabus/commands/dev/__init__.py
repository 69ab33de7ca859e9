"""`dev`: everything in one process, for trying things out. Data stays in `.sagabus/`, the bus is new at each start."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Final

from sagabus.commands.log_level import level_argument
from sagabus.commands.subcommand import Exit, Subcommand
from sagabus.messaging.embedded import FOLDER

SHOP: Final = " ".join(f"sagabus.shop.{name}" for name in ("order_processing", "inventory", "payment", "shipping"))


async def run(options: Namespace) -> Exit:
    from sagabus.commands.dev.session import run_dev

    return await run_dev(options)


def _arguments(place: ArgumentParser) -> None:
    place.add_argument("modules", nargs="+", metavar="MODULE[:OBJECT]", help="where sagas and participants are defined")
    place.add_argument("--fresh", action="store_true", help="delete the data of earlier runs")
    place.add_argument("--folder", default=str(FOLDER), metavar="DIR", help="where the data is kept (%(default)s)")
    level_argument(place)


SUBCOMMANDS: Final = (
    Subcommand(
        name="dev",
        about=(
            "Runs an embedded bus, an embedded PostgreSQL, a coordinator and the sagas and participants of these "
            "modules in one process, until Ctrl-C. The database is kept in DIR, the bus is new at each start; open "
            "sagas go on. The other commands find it through DIR/run.json. SAGABUS_HTTP moves its API."
        ),
        examples={
            f"sagabus dev {SHOP}": "the sample shop",
            "sagabus dev --fresh trip": "the module trip.py of the current directory, with an empty database",
        },
        arguments=_arguments,
        run=run,
        serves=True,
    ),
)  # fmt: skip

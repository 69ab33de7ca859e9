"""`dev`: everything in one process, for trying things out. Data stays in `.sagabus/`, the bus is new at each start."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from sagabus.commands import modules
from sagabus.commands.descriptors import raise_descriptor_limit
from sagabus.commands.host import hosting
from sagabus.commands.logs import start_logging
from sagabus.commands.setup import make_tables
from sagabus.commands.subcommand import Exit, Subcommand, say
from sagabus.coordinator.service import Coordinator
from sagabus.messaging.service.backing import FOLDER
from sagabus.messaging.settings import load_settings

SHOP: Final = " ".join(f"sagabus.shop.{name}" for name in ("order_processing", "inventory", "payment", "shipping"))


async def run_dev(options: Namespace) -> Exit:
    raise_descriptor_limit()
    start_logging(load_settings(require=(), serves=True).log)
    definitions, participants = modules.definitions(options.modules), modules.find(options.modules).participants
    async with hosting(Path(options.folder), fresh=options.fresh) as host, AsyncExitStack() as stack:
        backing = host.backing
        await make_tables(backing.settings, participants, business=True)
        coordinator = Coordinator(definitions, settings=backing.settings, kafka=backing.kafka)
        for running in (coordinator.running(), *(one.running() for one in participants)):
            await stack.enter_async_context(running)
        say(f"sagas: {', '.join(sorted(one.name for one in definitions))}")
        say(f"participants: {', '.join(sorted(one.service.name for one in participants)) or 'none'}")
        say(f"ready at {backing.url or 'no address: SAGABUS_HTTP is off'}; Ctrl-C ends it")
        await asyncio.Event().wait()
    return Exit.DONE


def _arguments(place: ArgumentParser) -> None:
    place.add_argument("modules", nargs="+", metavar="MODULE[:OBJECT]", help="where sagas and participants are defined")
    place.add_argument("--fresh", action="store_true", help="forget the data of earlier runs")
    place.add_argument("--folder", default=str(FOLDER), metavar="DIR", help="where the data is kept (%(default)s)")


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
        run=run_dev,
        serves=True,
    ),
)  # fmt: skip

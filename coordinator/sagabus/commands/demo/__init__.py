"""`demo`: what sagabus promises, shown on the sample shop (`performance`)."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Final

from sagabus.commands.subcommand import Exit, Subcommand
from sagabus.messaging.embedded import FOLDER


async def run(options: Namespace) -> Exit:
    from sagabus.commands.demo.performance import run_demo

    return await run_demo(options)


def _arguments(place: ArgumentParser) -> None:
    place.add_argument(
        "--folder",
        default=str(FOLDER / "demo"),
        metavar="DIR",
        help="where its data is kept; what is there is deleted first (%(default)s)",
    )


SUBCOMMANDS: Final = (
    Subcommand(
        name="demo",
        about=(
            "Runs the sample shop on an embedded bus and database: an order that succeeds, one that is undone, and "
            "two during which the coordinator is killed. At the end it looks into ledgers and topics, and ends with 0 "
            "only if all is as it should be. It needs no settings, and leaves nothing running."
        ),
        examples={"sagabus demo": "from start to end, in some seconds"},
        arguments=_arguments,
        run=run,
    ),
)

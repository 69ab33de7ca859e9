"""`coordinator` and `participant`: the services, for real deployments. SIGTERM and Ctrl-C drain them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from sagabus.commands.log_level import level_argument
from sagabus.commands.subcommand import Exit, Subcommand


async def _coordinator(options: Namespace) -> Exit:
    from sagabus.commands.services.running import run_coordinator

    return await run_coordinator(options)


async def _participant(options: Namespace) -> Exit:
    from sagabus.commands.services.running import run_participant

    return await run_participant(options)


def _coordinator_arguments(place: ArgumentParser) -> None:
    place.add_argument("modules", nargs="+", metavar="MODULE[:OBJECT]", help="where sagas are defined with @saga")
    _service_arguments(place)


def _participant_arguments(place: ArgumentParser) -> None:
    place.add_argument("modules", nargs="+", metavar="MODULE[:OBJECT]", help="where participants are made")
    _service_arguments(place)


def _service_arguments(place: ArgumentParser) -> None:
    what = "write to this file each second whether all is well, for `sagabus health FILE`"
    place.add_argument("--health-file", type=Path, metavar="FILE", help=what)
    level_argument(place)


SUBCOMMANDS: Final = (
    Subcommand(
        name="coordinator",
        about=(
            "Runs sagas. Several processes share the work: each owns some shards, and takes over those of one that "
            "ends. Needs SAGABUS_KAFKA and SAGABUS_DATABASE, and what `sagabus migrate` and `sagabus topics` make; "
            "waits for servers that are unreachable. Serves its API, /livez and /readyz at SAGABUS_HTTP. Modules are "
            "found in the current directory too. SIGTERM drains it."
        ),
        examples={
            "sagabus coordinator shop.order_processing": "all sagas that the module defines",
            "SAGABUS_INSTANCE=coordinator-0 sagabus coordinator shop.order_processing":
                "with static group membership: after a restart its shards are back at once",
            "SAGABUS_HTTP=off sagabus coordinator shop.order_processing": "without its API",
        },
        arguments=_coordinator_arguments,
        run=_coordinator,
        serves=True,
    ),
    Subcommand(
        name="participant",
        about=(
            "Runs participants: carries out the commands of their services, each once, and replies. "
            "Needs SAGABUS_KAFKA and SAGABUS_DATABASE, and what `sagabus migrate` and `sagabus topics` make; waits for "
            "servers that are unreachable. Modules are found in the current directory too. SIGTERM and Ctrl-C drain it."
        ),
        examples={
            "sagabus participant shop.inventory": "all participants that the module makes",
            "sagabus participant shop.inventory:service shop.payment:service": "two of them, by name, in one process",
            "sagabus participant --health-file /tmp/health shop.inventory": "with a file that says whether it is ready",
        },
        arguments=_participant_arguments,
        run=_participant,
        serves=True,
    ),
)  # fmt: skip

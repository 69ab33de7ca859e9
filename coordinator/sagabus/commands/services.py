"""`coordinator` and `participant`: the services, for real deployments. SIGTERM and Ctrl-C drain them."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, NoReturn

from sagabus.commands import modules
from sagabus.commands.descriptors import raise_descriptor_limit
from sagabus.commands.health import told
from sagabus.commands.logs import start_logging
from sagabus.commands.subcommand import Exit, Failed, Subcommand
from sagabus.coordinator.service import Coordinator
from sagabus.messaging.service.backing import Backing, find_backing
from sagabus.messaging.service.participation import Participation
from sagabus.messaging.settings import load_settings

HOST_WATCH: Final = 1.0
"""Seconds between two looks at the host, where bus and database are a host's."""


async def run_coordinator(options: Namespace) -> Exit:
    raise_descriptor_limit()
    settings = load_settings(serves=True)
    start_logging(settings.log)
    definitions = modules.definitions(options.modules)
    backing = find_backing(settings)
    coordinator = Coordinator(definitions, settings=backing.settings, kafka=backing.kafka)
    async with told(options.health_file, lambda: coordinator.readiness.why_not):
        await serve(backing, coordinator.running())


async def run_participant(options: Namespace) -> Exit:
    raise_descriptor_limit()
    settings = load_settings()
    start_logging(settings.log)
    participants = modules.participants(options.modules)
    backing = find_backing(settings)
    async with told(options.health_file, lambda: _why_not(participants)):
        await serve(backing, *(one.running() for one in participants))


def _why_not(participants: Sequence[Participation]) -> str:
    reasons = {one.service.name: one.why_not_ready for one in participants}
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items() if reason)


async def serve(backing: Backing, *services: AbstractAsyncContextManager[None]) -> NoReturn:
    """Until it is cancelled; then all drain. Raises Failed when the host has ended.

    Processor by side: one that waits for a database of its own keeps no other from its work.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for service in services:
                group.create_task(_hold(service))
            await _until_host_is_gone(backing)
    except BaseExceptionGroup as failures:  # of the group's; it holds what was raised
        raise failures.exceptions[0] from None
    raise AssertionError("nothing ends this but an exception")


async def _hold(service: AbstractAsyncContextManager[None]) -> None:
    async with service:
        await asyncio.Event().wait()


async def _until_host_is_gone(backing: Backing) -> NoReturn:
    """For ever, where there is no host. What is left of the work is in the host's database."""
    while not backing.gone:  # noqa: ASYNC110    # the end of another process is no event of ours
        await asyncio.sleep(HOST_WATCH)
    raise Failed(Exit.UNREACHABLE, "the host has ended, and with it the bus and the database")


def _coordinator_arguments(place: ArgumentParser) -> None:
    place.add_argument("modules", nargs="+", metavar="MODULE[:OBJECT]", help="where sagas are defined with @saga")
    _health_argument(place)


def _participant_arguments(place: ArgumentParser) -> None:
    place.add_argument("modules", nargs="+", metavar="MODULE[:OBJECT]", help="where participants are made")
    _health_argument(place)


def _health_argument(place: ArgumentParser) -> None:
    what = "say there each second whether all is well, for `sagabus health FILE`"
    place.add_argument("--health-file", type=Path, metavar="FILE", help=what)


SUBCOMMANDS: Final = (
    Subcommand(
        name="coordinator",
        about=(
            "Runs sagas. Several processes share the work: each owns some shards, and takes over those of one that "
            "ends. Needs SAGABUS_KAFKA and SAGABUS_DATABASE, and what `sagabus migrate` and `sagabus topics` make; "
            "waits for servers that are away. Serves its API, /livez and /readyz at SAGABUS_HTTP. Modules are found in "
            "the current directory too. SIGTERM drains it."
        ),
        examples={
            "sagabus coordinator shop.order_processing": "all sagas that the module defines",
            "SAGABUS_INSTANCE=coordinator-0 sagabus coordinator shop.order_processing":
                "with static group membership: after a restart its shards are back at once",
            "SAGABUS_HTTP=off sagabus coordinator shop.order_processing": "without its API",
        },
        arguments=_coordinator_arguments,
        run=run_coordinator,
        serves=True,
    ),
    Subcommand(
        name="participant",
        about=(
            "Runs participants: carries out the commands of their services, each once, and replies. "
            "Needs SAGABUS_KAFKA and SAGABUS_DATABASE, and what `sagabus migrate` and `sagabus topics` make; waits for "
            "servers that are away. Modules are found in the current directory too. SIGTERM and Ctrl-C drain it."
        ),
        examples={
            "sagabus participant shop.inventory": "all participants that the module makes",
            "sagabus participant shop.inventory:service shop.payment:service": "two of them, by name, in one process",
            "sagabus participant --health-file /tmp/health shop.inventory": "and says there how it is",
        },
        arguments=_participant_arguments,
        run=run_participant,
        serves=True,
    ),
)  # fmt: skip

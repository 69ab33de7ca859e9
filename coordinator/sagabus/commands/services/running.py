"""Runs coordinators and participants until they are told to end, and drains them."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, NoReturn

from sagabus.commands import modules
from sagabus.commands.descriptors import raise_descriptor_limit
from sagabus.commands.health import told
from sagabus.commands.logs import level_of, start_logging
from sagabus.commands.subcommand import Exit, Failed
from sagabus.coordinator.service import Coordinator
from sagabus.messaging.service.backing import Backing, find_backing
from sagabus.messaging.service.garbage import collect_rarely
from sagabus.messaging.service.participation import Participation
from sagabus.messaging.settings import load_settings

HOST_WATCH: Final = 1.0
"""Seconds between two looks at the host, where bus and database are a host's."""


async def run_coordinator(options: Namespace) -> Exit:
    raise_descriptor_limit()
    settings = load_settings(serves=True, log_level=options.log_level)
    start_logging(settings.log, level=level_of(settings))
    definitions = modules.definitions(options.modules)
    backing = find_backing(settings)
    coordinator = Coordinator(definitions, settings=backing.settings, kafka=backing.kafka)
    async with told(options.health_file, lambda: coordinator.readiness.why_not):
        await serve(backing, coordinator.running())


async def run_participant(options: Namespace) -> Exit:
    raise_descriptor_limit()
    settings = load_settings(log_level=options.log_level)
    start_logging(settings.log, level=level_of(settings))
    participants = modules.participants(options.modules)
    backing = find_backing(settings)
    collect_rarely()
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

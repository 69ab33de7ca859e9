"""One session of `dev`: from its settings to the signal that ends it."""

from __future__ import annotations

import asyncio
import logging
from argparse import Namespace
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from sagabus.commands import modules
from sagabus.commands.descriptors import raise_descriptor_limit
from sagabus.commands.dev.absent import Absent
from sagabus.commands.dev.dev_log import for_terminal, logging_to
from sagabus.commands.dev.opening import Opening
from sagabus.commands.host import Host, hosting
from sagabus.commands.logs import level_of, start_logging
from sagabus.commands.setup.tables import make_tables
from sagabus.commands.subcommand import Exit, say
from sagabus.coordinator.service import Coordinator
from sagabus.messaging import database_url
from sagabus.messaging.embedded import FOLDER
from sagabus.messaging.service.participation import Participation
from sagabus.messaging.settings import load_settings


async def run_dev(options: Namespace) -> Exit:
    raise_descriptor_limit()
    settings = load_settings(require=(), serves=True, log_level=options.log_level)
    start_logging(settings.log, level=level_of(settings))
    definitions, participants = modules.definitions(options.modules), modules.find(options.modules).participants
    for handler in logging.getLogger().handlers:
        handler.addFilter(for_terminal)
    absent = Absent(definitions, {one.service.name for one in participants}, options.modules)
    say(f"starting a bus and a database in {options.folder}")
    async with hosting(Path(options.folder), fresh=options.fresh) as host, AsyncExitStack() as stack:
        log, backing = stack.enter_context(logging_to(host.folder)), host.backing
        await make_tables(backing.settings, participants, business=True)
        backing.kafka.topic_appears = absent.topic_appears
        coordinator = Coordinator(definitions, settings=backing.settings, kafka=backing.kafka)
        for running in (coordinator.running(), *(one.running() for one in participants)):
            await stack.enter_async_context(running)
        for line in _opening(host, definitions, participants, log, absent).lines():
            say(line)
        await asyncio.Event().wait()
    return Exit.DONE


def _opening(
    host: Host,
    definitions: Sequence[modules.Definition],
    participants: Sequence[Participation],
    log: Path,
    absent: Absent,
) -> Opening:
    run, backing = host.backing.run, host.backing
    return Opening(
        sagas=[(one.name, [*one.contract.input.model_fields]) for one in definitions],
        participants=sorted(one.service.name for one in participants),
        url=backing.url,
        kafka=run.kafka if run else backing.settings.kafka,
        database=database_url.masked(backing.settings.database),
        log=log,
        here=host.folder == FOLDER.resolve(),
        absent=absent.at_start(),
    )

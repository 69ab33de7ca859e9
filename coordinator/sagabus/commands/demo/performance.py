"""What sagabus promises, shown on the sample shop. It ends well only if ledgers and topics say so.

    host (this process): bus, database, the shop's services, a witness        child: the coordinator, killed twice

The story waits for what the ledgers say; the audit at the end looks at nothing else.
"""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sagabus.client import SagaClient
from sagabus.commands import modules
from sagabus.commands.demo.audit import audit
from sagabus.commands.demo.ledgers import Books, Ledgers
from sagabus.commands.demo.narrator import Narrator
from sagabus.commands.demo.services import Services
from sagabus.commands.demo.story import COMPLETED, TOTAL, UNDONE, Story
from sagabus.commands.demo.witness import Witness, watching
from sagabus.commands.host import Host, hosting
from sagabus.commands.logs import start_logging
from sagabus.commands.setup.tables import make_tables
from sagabus.commands.subcommand import Exit, complain, say
from sagabus.contracts import names
from sagabus.messaging.bus.topic_admin import TopicSpec
from sagabus.messaging.service.participation import Participation
from sagabus.messaging.settings import OFF, LogFormat

SERVICES: Final = ("sagabus.shop.inventory", "sagabus.shop.payment", "sagabus.shop.shipping")

INTRODUCTION: Final = (
    "sagabus demo: a shop, and a coordinator that is killed twice. Bus and database are embedded.",
    "Who speaks: the customer; inventory, payment and shipping, which are services; the host, which runs them, and the",
    "coordinator as a process of its own; events, a consumer of the topics; at last an audit of ledgers and topics.",
)

LONGEST: Final = 120.0
"""Seconds for the whole story. It takes ten, on a busy machine thirty; after this, something does not go on."""


async def run_demo(options: Namespace) -> Exit:
    for line in INTRODUCTION:
        say(line)
    with Narrator() as narrator:
        narrator.tell("host", "starts a bus and a database, which takes some seconds")
        async with hosting(Path(options.folder), fresh=True, http=OFF) as host:
            start_logging(LogFormat.TEXT, file=host.folder / "host.log")
            try:
                async with asyncio.timeout(LONGEST):
                    return await _show(host, narrator)
            except TimeoutError:
                complain(f"the demo did not come to its end within {LONGEST:.0f} s; the coordinator said last:")
                complain((host.folder / "coordinator.log").read_text(errors="replace")[-2000:])
                return Exit.ENDED_OTHERWISE


async def _show(host: Host, narrator: Narrator) -> Exit:
    participants = modules.participants(SERVICES)
    settings, kafka = host.backing.settings, host.backing.kafka
    await make_tables(settings, participants, business=True)
    topics = _event_topics(participants, settings.namespace)
    await kafka.create_topics(dict.fromkeys(topics, TopicSpec(settings.partitions)))
    async with (
        Ledgers(settings.database) as ledgers,
        watching(kafka, topics, lambda happening: narrator.tell("events", happening)) as witness,
        SagaClient() as client,
        Services(participants, narrator) as services,
    ):
        before = await ledgers.look()
        story = Story(narrator=narrator, witness=witness, ledgers=ledgers, client=client, services=services, host=host)
        await story.tell()
        return _judge(narrator, before, await ledgers.look(), witness)


def _event_topics(participants: Sequence[Participation], namespace: str) -> list[str]:
    """Where domain events and lifecycle events leave the outboxes."""
    services = [one.service for one in participants]
    events = [event for service in services for event in service.events.values()]
    return [names.events_topic(namespace), *(event.topic for event in events if event.topic)]


def _judge(narrator: Narrator, before: Books, after: Books, witness: Witness) -> Exit:
    narrator.heading("What ledgers and topics say:")
    findings = [*audit(before, after, witness, completed=COMPLETED, undone=UNDONE, total=TOTAL)]
    for finding in findings:
        narrator.tell("audit", finding)
    right = all(finding.right for finding in findings)
    narrator.heading("All ended as it should." if right else "NOT all ended as it should.")
    return Exit.DONE if right else Exit.ENDED_OTHERWISE

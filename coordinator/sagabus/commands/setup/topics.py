"""`topics`: makes the topics that the services need, once, before they run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Mapping
from typing import Final

from sagabus.commands import modules
from sagabus.commands.subcommand import Exit, Failed, say, say_json
from sagabus.contracts.activity import Service
from sagabus.messaging.bus.topic_admin import TopicInfo, TopicSpec
from sagabus.messaging.service.backing import find_backing
from sagabus.messaging.service.prerequisites import coordinator_topics, participant_topics
from sagabus.messaging.settings import load_settings

ANSWER_SECONDS: Final = 10.0
"""To wait for a server that does not answer."""


async def run_topics(options: Namespace) -> Exit:
    settings = load_settings(require=("kafka",))
    services = modules.services(options.modules)
    kafka = find_backing(settings).kafka
    await kafka.wait_until_reachable(patience=ANSWER_SECONDS)
    wanted = topics_of(services, settings.namespace)
    there = await kafka.topics(wanted)
    if not kafka.embedded:
        told = {event.topic for service in services for event in service.events.values()}
        _check({name: topic for name, topic in there.items() if name not in told}, settings.partitions)
    spec = TopicSpec(settings.partitions, settings.replication)
    made = await kafka.create_topics({name: spec for name in wanted if name not in there})
    found = there | made
    if options.json:
        say_json({name: {"partitions": topic.partitions, "made": name in made} for name, topic in found.items()})
    else:
        for name in wanted:
            say(f"{name}: {'made' if name in made else 'is there'}, {found[name].partitions} partitions")
    return Exit.DONE


def topics_of(services: Iterable[Service], namespace: str) -> list[str]:
    """What a coordinator and these services read and write, sorted."""
    own = coordinator_topics(namespace)
    return sorted(own.union(*(participant_topics(service, namespace) for service in services)))


def _check(there: Mapping[str, TopicInfo], partitions: int) -> None:
    """A number of partitions is for ever: it decides which saga belongs to which shard (S11). there: without topics of
    events, which may have any."""
    others = [f"{one.name} has {one.partitions}" for one in there.values() if one.partitions != partitions]
    if others:
        counts = sorted({topic.partitions for topic in there.values()})
        cure = f"set SAGABUS_PARTITIONS={counts[0]}" if len(counts) == 1 else "delete those that hold nothing yet"
        raise Failed(
            Exit.REFUSED,
            f"topics with another number of partitions than {partitions}: {', '.join(sorted(others))}; {cure}",
        )

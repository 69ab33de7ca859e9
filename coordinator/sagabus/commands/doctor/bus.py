"""What the doctor asks Kafka: is it there, and are the topics as the services need them?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from typing import Final

from sagabus.commands.doctor.finding import Report
from sagabus.contracts import names
from sagabus.contracts.activity import Service
from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.bus.kafka_connection import KafkaRefused, KafkaUnreachable
from sagabus.messaging.bus.topic_admin import TopicInfo, TopicPolicy
from sagabus.messaging.service.prerequisites import NotReady, coordinator_topics, participant_topics
from sagabus.messaging.service.window import check_window, topic_complaint
from sagabus.messaging.settings import Settings

ANSWER_SECONDS: Final = 3.0
"""To wait for an answer."""

NEVER_READ: Final = frozenset(("events", "dead-letters"))
"""By us, by the end of the topic's name."""

WINDOWS: Final = {"requests": "retention_started_ids", "commands": "retention_inbox"}
"""By the end of the topic's name: what is remembered must outlast what the topic holds (H2, P5)."""


async def look(kafka: Kafka, settings: Settings, services: Sequence[Service], report: Report) -> dict[str, int]:
    """The number of partitions of each topic that is there; empty where Kafka is away."""
    try:
        await kafka.wait_until_reachable(patience=ANSWER_SECONDS)
        wanted = _wanted(settings.namespace, services)
        found = await kafka.topics(wanted)
        policies = await kafka.policies(found)
    except KafkaRefused as error:
        cure = "look at SAGABUS_KAFKA_SECURITY and what belongs to it, and at the broker's ACLs"
        report.found("kafka.refused", str(error), cure, away=True)
        return {}
    except KafkaUnreachable as error:
        cure = f"start it, or set SAGABUS_KAFKA, which is {settings.kafka}; services wait for it and go on"
        report.found("kafka.away", str(error), cure, away=True)
        return {}
    report.figures |= {"kafka": kafka.address, "topics": len(found)}
    if kafka.embedded:
        _unserved(wanted - found.keys(), services, settings.namespace, report)
    else:
        _missing(wanted - found.keys(), services, report)
    _unequal(found, settings.namespace, report)
    if not kafka.embedded:
        _replicated(found, settings, report)
        _compacted(policies, report)
        _kept(policies, settings, report)
    return {topic.name: topic.partitions for topic in found.values()}


def _wanted(namespace: str, services: Sequence[Service]) -> set[str]:
    return coordinator_topics(namespace).union(*(participant_topics(one, namespace) for one in services))


def _missing(missing: Collection[str], services: Sequence[Service], report: Report) -> None:
    if missing:
        modules = "the modules of your contracts" if services else "MODULE, with the module of your contracts"
        cure = f"run `sagabus topics` with {modules}"
        report.found("topics.missing", f"topics are missing: {', '.join(sorted(missing))}", cure)


def _unserved(missing: Set[str], services: Sequence[Service], namespace: str, report: Report) -> None:
    """On the embedded bus whoever runs there makes its own topics, so none is missing of a service that does."""
    absent = [one.name for one in services if not missing.isdisjoint(participant_topics(one, namespace))]
    if absent:
        what = (
            f"nobody serves {', '.join(absent)} on the embedded bus: topics are missing: {', '.join(sorted(missing))}"
        )
        cure = "add the modules of their participants to the command line of `sagabus dev`, or run them elsewhere"
        report.found("topics.missing", what, cure)
    elif missing:
        what = f"topics are missing on the embedded bus: {', '.join(sorted(missing))}"
        report.found("topics.missing", what, "`sagabus dev` makes them at its start: ask again when it is ready")


def _unequal(found: Mapping[str, TopicInfo], namespace: str, report: Report) -> None:
    """Partition n of the requests and of every reply topic is shard n."""
    sharded = {name: one.partitions for name, one in found.items() if name.startswith(f"{namespace}.re")}
    if len(set(sharded.values())) > 1:
        counts = ", ".join(f"{name} has {count}" for name, count in sorted(sharded.items()))
        requests = sharded.get(names.requests_topic(namespace))
        cure = (
            f"delete the others, and make them again with {requests} partitions while no coordinator runs: replies are "
            "sent again"
        )
        report.found("topics.unequal", f"topics of the coordinator differ in partitions: {counts}", cure)


def _replicated(found: Mapping[str, TopicInfo], settings: Settings, report: Report) -> None:
    few = [f"{one.name} {one.replicas}" for one in found.values() if one.replicas < settings.replication]
    if few:
        what = f"topics with fewer replicas than SAGABUS_REPLICATION={settings.replication}: {', '.join(sorted(few))}"
        cure = "add replicas with kafka-reassign-partitions, or set SAGABUS_REPLICATION to what is meant"
        report.found("topics.replication", what, cure)
    behind = [f"{one.name} {one.behind}" for one in found.values() if one.behind]
    if behind:
        what = f"partitions whose replicas are not all in sync: {', '.join(sorted(behind))}"
        report.found("topics.behind", what, "look after the brokers: one of them is unreachable or slow")


def _compacted(policies: Mapping[str, TopicPolicy], report: Report) -> None:
    read = {topic: policy for topic, policy in sorted(policies.items()) if topic.split(".")[-1] not in NEVER_READ}
    found = [complaint for topic, policy in read.items() if (complaint := topic_complaint(topic, policy))]
    if found:
        report.found("topics.compacted", "; ".join(what for what, _ in found), "; ".join(cure for _, cure in found))


def _kept(policies: Mapping[str, TopicPolicy], settings: Settings, report: Report) -> None:
    endless: list[str] = []
    for topic, policy in sorted(policies.items()):
        use = topic.rpartition(".")[2]
        field = WINDOWS.get(use)
        if field is None or (use == "requests" and settings.retention_sagas is None):
            continue  # where no saga is ever forgotten, no start is either
        if policy.compacts:
            continue  # which is told as a fault of its own
        if policy.kept is None and getattr(settings, field) is not None:
            endless.append(topic)
            continue
        try:
            check_window(topic, policy.kept, field, getattr(settings, field), loss=f"{use} are refused")
        except NotReady as error:
            what, _, cure = str(error).partition("; ")
            report.found("topics.retention", what, cure)
    if endless:
        what = f"topics keep their records without end: {', '.join(endless)}"
        cure = "set a retention.ms on them: a record that is older than what is remembered of sagas is refused"
        report.found("topics.endless", what, cure)

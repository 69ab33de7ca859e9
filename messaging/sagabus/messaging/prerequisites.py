"""What must be there before a service can run: its topics and tables, and what to say when they are not."""

from __future__ import annotations

from sagabus.contracts import names
from sagabus.contracts.activity import Service
from sagabus.contracts.errors import SagabusError


class NotReady(SagabusError):
    """Something that `sagabus migrate` or `sagabus topics` makes is missing. The sentence names the command."""


def coordinator_topics(namespace: str) -> set[str]:
    """What a coordinator reads and writes, the services' own topics aside."""
    return {
        names.requests_topic(namespace),
        names.events_topic(namespace),
        names.dead_letters_topic(namespace),
        names.replies_topic(namespace, names.OWN_SERVICE),
    }


def participant_topics(service: Service, namespace: str) -> set[str]:
    """What a participant of this service reads and writes."""
    events = {event.topic for event in service.events.values() if event.topic is not None}
    commands, replies = names.commands_topic(service.name), names.replies_topic(namespace, service.name)
    return {commands, replies, names.dead_letters_topic(namespace), *events}

"""Whether a service remembers for longer than Kafka keeps what it reads; asked once, at its start (P5, H2)."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from sagabus.messaging.bus.topic_admin import TopicPolicy
from sagabus.messaging.service.prerequisites import NotReady
from sagabus.messaging.settings import variable
from sagabus.messaging.shards.retention import margin

log = logging.getLogger(__name__)


def check_window(topic: str, kept: float | None, field: str, window: float | None, *, loss: str) -> None:
    """Refuse to start if a record of this topic may be read after what it is compared with has been forgotten.

    kept: seconds that the topic keeps records. field, window: the setting, and its value in seconds; None: for ever.
    Nothing would take effect twice, since what may have been forgotten is refused (P5, H2). But it would be refused
    for no other reason than this setting, saga by saga and before a person; it is better said once, at the start.
    A topic that keeps its records without end is named in the log and not refused: no setting would be long enough.
    Raises NotReady.
    """
    if window is None:
        return
    if kept is None:
        log.warning("the topic %s keeps its records for ever: of those older than %s, %s", topic, _shown(window), loss)
    elif kept > window - margin(window):
        raise NotReady(
            f"the topic {topic} keeps its records for {_shown(kept)} (retention.ms), and {variable(field)}="
            f"{_shown(window)} is not longer by {_shown(margin(window))} at least: of records older than that, {loss}; "
            f"set {variable(field)}={_shown(math.ceil(kept * 2))}, or give the topic a shorter retention.ms"
        )


def topic_complaint(topic: str, policy: TopicPolicy) -> tuple[str, str] | None:
    """What is wrong with how a topic that is read treats old records, and the cure; None where nothing is."""
    if policy.compacts:
        return (
            f"the topic {topic} is compacted: of a saga's records Kafka keeps the last one, and removes others unread",
            f"set its cleanup.policy to delete (kafka-configs --alter --entity-type topics --entity-name {topic} "
            "--add-config cleanup.policy=delete)",
        )
    return None


def check_topics(policies: Mapping[str, TopicPolicy]) -> None:
    """Refuse to start on a topic that loses records before they are read. Raises NotReady."""
    found = [complaint for name, policy in sorted(policies.items()) if (complaint := topic_complaint(name, policy))]
    if found:
        raise NotReady("; ".join(f"{what}: {cure}" for what, cure in found))


def _shown(seconds: float) -> str:
    """As the setting is written."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"

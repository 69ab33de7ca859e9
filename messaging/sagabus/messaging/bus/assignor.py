"""Which member of a consumer group gets which shards: partition n of every topic goes to one member.

A shard is a partition number over all topics of the subscription, and one process has to own the whole of it; the
assignors that come with Kafka's clients deal partitions out topic by topic. This one is balanced to within one shard
and sticky: a member keeps what it had, as far as balance allows, since each move costs the loading of a shard.

What a member had travels as user data of its subscription (KIP-54 does likewise), with the round in which it was given,
so that of two members that claim a shard the later owner wins. It must never give a member a topic that it did not ask
for: aiokafka's coordinator dies of that.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol

from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

PROTOCOL: Final = "sagabus-shards-1"
"""All members of a group must name it; another number is another, incompatible way of dealing out."""

_VERSION: Final = 0


class Topics(Protocol):
    """What is asked of the cluster's metadata."""

    def partitions_for_topic(self, topic: str) -> Collection[int] | None: ...


@dataclass(frozen=True, slots=True)
class OwnedShards:
    """What a member had when it joined, and in which round of this group it was given."""

    shards: frozenset[int] = frozenset()
    round: int = 0

    def encode(self) -> bytes:
        return json.dumps({"shards": sorted(self.shards), "round": self.round}).encode()

    @classmethod
    def decode(cls, data: bytes | None) -> OwnedShards:
        """Nothing was had if the bytes are not ours."""
        try:
            fields = json.loads(data or b"{}")
            return cls(frozenset(map(int, fields["shards"])), int(fields["round"]))
        except (ValueError, TypeError, KeyError):
            return cls()


def deal_out(shards: Collection[int], owned: Mapping[str, OwnedShards]) -> dict[str, frozenset[int]]:
    """Every shard to one member, sizes at most one apart; a member keeps what it owns. The same for equal arguments."""
    had = _honoured(frozenset(shards), owned)
    due = _due(len(shards), had)
    dealt = {member: sorted(had[member])[: due[member]] for member in had}
    free = iter(sorted(set(shards).difference(*dealt.values())))
    for member, given in dealt.items():
        given.extend(islice(free, due[member] - len(given)))
    return {member: frozenset(given) for member, given in dealt.items()}


class ShardAssignor(AbstractPartitionAssignor):  # type: ignore[misc]    # aiokafka has no types
    """One for each consumer: it remembers what its member was given. (aiokafka takes it for a class.)"""

    name = PROTOCOL

    def __init__(self) -> None:
        self._owned = OwnedShards()

    def metadata(self, topics: Iterable[str]) -> Any:
        return ConsumerProtocolMemberMetadata(_VERSION, sorted(topics), self._owned.encode())

    def assign(self, cluster: Topics, members: Mapping[str, Any]) -> dict[str, Any]:
        """The leader's work: what each member gets."""
        owned = {member: OwnedShards.decode(metadata.user_data) for member, metadata in members.items()}
        wanted = {member: frozenset[str](metadata.subscription) for member, metadata in members.items()}
        topics = frozenset[str]().union(*wanted.values())
        counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        dealt = deal_out(range(max(counts.values(), default=0)), owned)
        this = 1 + max((one.round for one in owned.values()), default=0)
        return {
            member: _assignment(OwnedShards(shards, this), wanted[member], counts) for member, shards in dealt.items()
        }

    def on_assignment(self, assignment: Any) -> None:
        """Every member's: what it was given."""
        given = OwnedShards.decode(assignment.user_data)
        self._owned = OwnedShards(frozenset(tp.partition for tp in assignment.partitions()), given.round)


def _honoured(shards: frozenset[int], owned: Mapping[str, OwnedShards]) -> dict[str, set[int]]:
    """What each member had, without the shards that another was given after it."""
    owner: dict[int, str] = {}
    for member in sorted(owned, key=lambda name: (owned[name].round, name)):
        owner.update(dict.fromkeys(owned[member].shards & shards, member))
    return {member: {shard for shard, last in owner.items() if last == member} for member in sorted(owned)}


def _due(shards: int, had: Mapping[str, Collection[int]]) -> dict[str, int]:
    """How many shards each member gets: the larger shares for those that had most, so that least moves."""
    share, larger = divmod(shards, len(had)) if had else (0, 0)
    most_first = sorted(had, key=lambda member: -len(had[member]))
    return {member: share + (place < larger) for place, member in enumerate(most_first)}


def _assignment(given: OwnedShards, topics: frozenset[str], counts: Mapping[str, int]) -> Any:
    shards = sorted(given.shards)
    partitions = [(topic, [shard for shard in shards if shard < counts[topic]]) for topic in sorted(topics)]
    return ConsumerProtocolMemberAssignment(_VERSION, partitions, given.encode())

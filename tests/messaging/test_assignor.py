"""The assignor as a pure function: balance, stickiness, co-location."""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from hypothesis import given
from hypothesis import strategies as st

from sagabus.messaging.bus.assignor import OwnedShards, ShardAssignor, deal_out

Dealt = dict[str, frozenset[int]]

shards = st.integers(min_value=0, max_value=40)
members = st.sets(st.sampled_from("abcdefgh"), min_size=1).map(sorted)
claims = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.builds(OwnedShards, st.frozensets(st.integers(0, 50)), st.integers(0, 5)),
    min_size=1,
)


class Topics(dict[str, int]):
    """The part of aiokafka's cluster metadata that assignors use."""

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return set(range(self[topic])) if topic in self else None


def newcomers(names: list[str]) -> dict[str, OwnedShards]:
    return {name: OwnedShards() for name in names}


def remembered(dealt: Mapping[str, frozenset[int]]) -> dict[str, OwnedShards]:
    return {member: OwnedShards(given, 1) for member, given in dealt.items()}


@given(count=shards, claims=claims)
def test_every_shard_has_one_owner_and_sizes_are_one_apart(count: int, claims: dict[str, OwnedShards]) -> None:
    dealt = deal_out(range(count), claims)
    assert sorted(shard for given in dealt.values() for shard in given) == list(range(count))
    sizes = {len(given) for given in dealt.values()}
    assert max(sizes) - min(sizes) <= 1
    assert set(dealt) == set(claims)


@given(count=shards, names=members)
def test_nothing_moves_when_nobody_comes_or_goes(count: int, names: list[str]) -> None:
    dealt = deal_out(range(count), newcomers(names))
    assert deal_out(range(count), remembered(dealt)) == dealt


@given(count=shards, names=members, data=st.data())
def test_who_stays_keeps_what_it_had_when_one_leaves(count: int, names: list[str], data: st.DataObject) -> None:
    before = deal_out(range(count), newcomers(names))
    leaver = data.draw(st.sampled_from(names))
    stayers = {member: given for member, given in before.items() if member != leaver}
    after = deal_out(range(count), remembered(stayers))
    for member, had in stayers.items():
        assert had <= after[member]


@given(count=shards, names=members)
def test_only_the_newcomers_share_moves(count: int, names: list[str]) -> None:
    before = deal_out(range(count), newcomers(names))
    after = deal_out(range(count), remembered(before) | {"newcomer": OwnedShards()})
    moved = [shard for member in names for shard in before[member] - after[member]]
    assert sorted(moved) == sorted(after["newcomer"])


def test_of_two_that_claim_a_shard_the_later_owner_keeps_it() -> None:
    claims = {"back_from_the_dead": OwnedShards(frozenset({0, 1}), 3), "owner": OwnedShards(frozenset({0, 1}), 4)}
    assert 0 in deal_out(range(2), claims)["owner"]


def test_claim_that_is_not_ours_counts_as_none() -> None:
    for data in (None, b"", b"\xff", b"[]", b'{"shards": 3}', b'{"shards": ["x"], "round": 1}'):
        assert OwnedShards.decode(data) == OwnedShards()


def dealt_by(members: Mapping[str, list[str]], cluster: Topics, *, assignors: Mapping[str, ShardAssignor]) -> Dealt:
    """One rebalance over the wire format; gives the shards of each member by what it finds in its assignment."""
    joined = {
        name: ConsumerProtocolMemberMetadata.decode(assignors[name].metadata(topics).encode())
        for name, topics in members.items()
    }
    shards: Dealt = {}
    for name, assignment in next(iter(assignors.values())).assign(cluster, joined).items():
        received = ConsumerProtocolMemberAssignment.decode(assignment.encode())
        assignors[name].on_assignment(received)
        by_topic = {topic: frozenset(partitions) for topic, partitions in received.assignment}
        assert set(by_topic) <= set(members[name]), "aiokafka's coordinator dies of a topic not asked for"
        full = {given for topic, given in by_topic.items() if cluster[topic] == max(cluster.values())}
        assert len(full) == 1, f"partitions of one number are not together: {by_topic}"
        shards[name] = full.pop()
    return shards


def test_partition_n_of_all_topics_goes_to_one_member() -> None:
    topics = ["ns.requests", "ns.replies.inventory", "ns.replies.payment"]
    assignors = {name: ShardAssignor() for name in "abc"}
    dealt = dealt_by(dict.fromkeys("abc", topics), Topics(dict.fromkeys(topics, 12)), assignors=assignors)
    assert sorted(len(given) for given in dealt.values()) == [4, 4, 4]


def test_rebalances_over_the_wire_are_sticky() -> None:
    topics, cluster = ["requests", "replies"], Topics(requests=12, replies=12)
    assignors = {name: ShardAssignor() for name in "ab"}
    first = dealt_by(dict.fromkeys("ab", topics), cluster, assignors=assignors)
    assignors["c"] = ShardAssignor()
    second = dealt_by(dict.fromkeys("abc", topics), cluster, assignors=assignors)
    assert second["a"] < first["a"]
    assert second["b"] < first["b"]
    del assignors["b"]
    third = dealt_by(dict.fromkeys("ac", topics), cluster, assignors=assignors)
    assert second["a"] < third["a"]
    assert second["c"] < third["c"]


def test_member_that_does_not_know_a_new_topic_yet_gets_no_part_of_it() -> None:
    cluster = Topics(requests=4, replies=4)
    assignors = {name: ShardAssignor() for name in "ab"}
    dealt = dealt_by({"a": ["requests", "replies"], "b": ["requests"]}, cluster, assignors=assignors)
    assert dealt["a"] | dealt["b"] == {0, 1, 2, 3}


def test_topic_with_fewer_partitions_and_topic_that_nobody_knows() -> None:
    cluster = Topics(requests=6, small=2)
    assignors = {name: ShardAssignor() for name in "ab"}
    topics = ["requests", "small"]
    dealt = dealt_by({"a": topics, "b": topics}, cluster, assignors=assignors)
    assert dealt["a"] | dealt["b"] == set(range(6))
    metadata = {"a": ConsumerProtocolMemberMetadata(0, ["gone"], b"")}
    assert ShardAssignor().assign(cluster, metadata)["a"].partitions() == []

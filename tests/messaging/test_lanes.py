"""How the shards of a process are dealt out to turns that are under way at once."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from sagabus.messaging.publishing.relay import Relay
from sagabus.messaging.shards.lanes import ONE, Lanes
from sagabus.messaging.shards.tenure import Tenure


def dealt(lanes: Lanes, *records: int) -> Sequence[Sequence[int]]:
    """The shards of each lane. records: of each shard, which are numbered from 0."""
    shards = {_tenure(shard): count for shard, count in enumerate(records)}
    return [[tenure.shard for tenure in lane] for lane in lanes.dealt(shards)]


def _tenure(shard: int) -> Tenure:
    return Tenure(
        shard=shard, token=UUID(int=shard), turn=1, next_position=1, places={}, pruned_before=None,
        relay=Relay(position=0),
    )  # fmt: skip


def test_little_work_is_one_turn() -> None:
    assert dealt(Lanes(most=3, worth=10), 9, 0, 10) == [[0, 1, 2]]


def test_no_work_is_no_turn() -> None:
    assert dealt(Lanes(most=3, worth=10)) == []


def test_a_single_shard_is_one_turn() -> None:
    assert dealt(Lanes(most=3, worth=1), 100) == [[0]]


def test_shards_are_dealt_out_evenly() -> None:
    assert dealt(Lanes(most=2, worth=10), 10, 40, 10, 20, 0) == [[1, 4], [3, 0, 2]]


def test_so_many_lanes_as_are_worth_it() -> None:
    assert len(dealt(Lanes(most=4, worth=10), 10, 10, 10, 5)) == 3


def test_one_lane_takes_all() -> None:
    assert dealt(ONE, 500, 500) == [[0, 1]]


@given(st.lists(st.integers(0, 30), max_size=14), st.integers(1, 5), st.integers(1, 40))
def test_each_shard_is_in_one_lane(records: list[int], most: int, worth: int) -> None:
    lanes = dealt(Lanes(most, worth), *records)
    assert sorted(shard for lane in lanes for shard in lane) == [*range(len(records))]
    assert len(lanes) <= most
    assert all(lanes)

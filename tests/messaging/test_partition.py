"""The hash that chooses a saga's shard, against the other implementations of it."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import example, given
from hypothesis import strategies as st

from sagabus.messaging.bus.partition import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_hashes_of_the_java_client(key: bytes, signed: int) -> None:
    """The vectors of `UtilsTest.testMurmur2` in Apache Kafka."""
    assert murmur2(key) == signed & 0xFFFFFFFF


@given(key=st.binary(max_size=400), partitions=st.integers(min_value=1, max_value=200))
@example(key=b"", partitions=12)
@example(key=b"\xff" * 256, partitions=7)
def test_s12_partition_is_that_of_aiokafka(key: bytes, partitions: int) -> None:
    theirs = DefaultPartitioner()(key, list(range(partitions)), [])
    assert partition_of(key, partitions) == theirs


def test_keys_spread_over_all_partitions() -> None:
    used = {partition_of(f"ORD-{number}".encode(), 12) for number in range(200)}
    assert used == set(range(12))

"""Turns that are under way at once: while one waits for the database, another is decided.

A turn is decided on the loop, and then its transaction waits for PostgreSQL. Where there is much to do, the shards of a
process are dealt out to some lanes, and each lane has a turn for its own shards alone: nothing of one shard overlaps
(S1). Where there is little, one turn for all shards costs less, since a transaction has a price of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sagabus.messaging.shards.tenure import Tenure


class Lanes(NamedTuple):
    """most: turns at once. worth: records of a lane for which a transaction of their own is worth its price."""

    most: int
    worth: int

    def dealt(self, records: Mapping[Tenure, int]) -> Sequence[Sequence[Tenure]]:
        """The shards of each lane, all with about as many records. records: of each shard. No lane is empty."""
        count = min(self.most, sum(records.values()) // self.worth, len(records))
        if count < 2:
            return [[*records]] if records else []
        lanes: list[list[Tenure]] = [[] for _ in range(count)]
        loads = [0] * count
        for tenure in sorted(records, key=lambda one: records[one], reverse=True):
            least = loads.index(min(loads))
            lanes[least].append(tenure)
            loads[least] += records[tenure]
        return lanes


ONE = Lanes(most=1, worth=1)
"""For services whose turns would wait for each other: handlers that write to the same rows."""

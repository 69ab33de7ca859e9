"""What a service counts, in one object that its parts are given. Nothing here is written anywhere.

A family is a name and a counter by label: `counters.family(Family.RECORDS)["start.accepted"] += 1`. Whoever shows the
numbers reads `families`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum


class Family(StrEnum):
    """What is counted since the process began, and what its label is."""

    RECORDS = "records"
    """What became of each record that was read, after the commit; label: a reason of `contracts.reasons`."""
    KEPT_REQUESTS = "kept_requests"
    """What became in the end of requests that were counted as kept; label: a reason."""
    TURNS = "turns"
    """label: `committed` or `failed`."""
    TENURES = "tenures"
    """label: `acquired`, `refused` or `ended`."""
    RELAY = "relay"
    """Messages; label: `published` or `parked`; and `failed` for each end of a relay."""
    OFFSET_COMMITS = "offset_commits"
    """Offsets told to Kafka, for tools that show lag; label: `told` or `failed`."""


class Counters:
    """Of one service in one process."""

    def __init__(self) -> None:
        self._families: dict[str, Counter[str]] = {family: Counter() for family in Family}

    def family(self, family: Family) -> Counter[str]:
        """To count in, and to look at."""
        return self._families[family]

    @property
    def families(self) -> Mapping[str, Mapping[str, int]]:
        """All of them, by name."""
        return self._families

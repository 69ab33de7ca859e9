"""The shards whose turns over records have failed, one after the other, without one that was committed between them.

It outlives assignments. A turn that lets the process stand still may cost it its place in the group: it comes back with
all shards anew, and those of the failed turn must be known, or they would share a turn again and fail together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from sagabus.contracts.words import words_of

FAILURES_BEFORE_TOLD: Final = 10
"""With the pauses between them half a minute: what passes by itself has passed."""

MOST_WORDS: Final = 300


@dataclass(slots=True)
class _Failures:
    count: int
    last: str


class FailedTurns:
    """By shard. `in` says whether its last turn over records has failed."""

    def __init__(self) -> None:
        self._shards: dict[int, _Failures] = {}

    def __contains__(self, shard: int) -> bool:
        return shard in self._shards

    def add(self, shards: Iterable[int], error: BaseException) -> None:
        said = f"{type(error).__name__}: {words_of(error, most=MOST_WORDS)}"
        for shard in shards:
            failures = self._shards.setdefault(shard, _Failures(0, said))
            failures.count += 1
            failures.last = said

    def over(self, shard: int) -> None:
        self._shards.pop(shard, None)

    def words(self, shards: Collection[int]) -> str:
        """Of these shards, those that have failed so often that a person should know; empty where there is none."""
        return "; ".join(
            f"shard {shard} takes no records in: {failed.count} turns in a row have failed, the last of {failed.last}"
            for shard, failed in sorted(self._shards.items())
            if shard in shards and failed.count >= FAILURES_BEFORE_TOLD
        )

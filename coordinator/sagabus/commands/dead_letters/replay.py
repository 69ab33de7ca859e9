"""Sending letters again: one at a time, or all of a kind in batches, the oldest first.

Each row is locked while its record is on its way and deleted with the acknowledgement, so two operators never send the
same one, and nothing is lost by an interruption. It must never delete what was not acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sagabus.commands.subcommand import Exit, Failed
from sagabus.messaging.bus.publish_errors import PublishFailed, PublishRefused
from sagabus.messaging.publishing.dead_letter_rows import DeadLetterRows, NotWhole, Repair, again
from sagabus.messaging.publishing.relay import Publisher

TOGETHER: Final = 100
"""Letters in one transaction: so many are published again if it is cut off after their acknowledgement."""


class DeadLetterReplay:
    """Remembers what became of each letter. Those in none of the lists were not tried."""

    def __init__(self, box: DeadLetterRows, publisher: Publisher, repair: Repair) -> None:
        self.replayed: list[int] = []
        self.absent: list[int] = []
        """Not there, or held by somebody else at this moment."""
        self.refused: dict[int, str] = {}
        """Kafka will not have them, or the row has not all of them; they stay."""
        self._box = box
        self._publisher = publisher
        self._repair = repair

    async def each(self, ids: Sequence[int]) -> None:
        """Raises Failed when Kafka is unreachable."""
        for id in sorted(set(ids)):
            try:
                await self._batch([id])
            except (PublishRefused, NotWhole) as refusal:
                self.refused[id] = str(refusal)

    async def all(self, ids: Sequence[int], *, progress: Callable[[str], None]) -> None:
        """As `each`, in batches. What comes in meanwhile, because it was not understood again, is not among them."""
        for start in range(0, len(ids), TOGETHER):
            batch = ids[start : start + TOGETHER]
            try:
                await self._batch(batch)
            except (PublishRefused, NotWhole):
                await self.each(batch)
            progress(f"{len(self.replayed)} of {len(ids)} replayed")

    async def _batch(self, ids: Sequence[int]) -> None:
        try:
            async with self._box.taken(ids) as letters:
                if letters:
                    await self._publisher.publish([again(letter, self._repair) for letter in letters])
        except PublishFailed as error:
            raise Failed(Exit.UNREACHABLE, f"{error}; what is not listed as replayed is still there") from error
        there = [letter.id for letter in letters]
        self.replayed += there
        self.absent += [id for id in ids if id not in there]

"""What both fuzzed sides share: a relay that publishes into a list, the culprit of a bad batch, comparing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from sagabus.contracts.envelope import Message
from sagabus.contracts.reasons import FATES, Fate
from sagabus.messaging.shards.tenure import Tenure
from tests.hostile.seeds import Draft


class Broken(AssertionError):
    """The product did what it must not. The sentence holds the seed, and the record as it can be fed again."""


class Posted:
    """A relay's publisher: what was published, for the test to take."""

    def __init__(self) -> None:
        self._messages: list[Message] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        self._messages += messages

    async def take(self, tenure: Tenure) -> list[Message]:
        """All that has left since the last time, once the relay has nothing more."""
        await tenure.relay.below(1)
        taken, self._messages = self._messages, []
        return taken


class Fuzzed(Protocol):
    """One side that is fed."""

    async def turn(self, drafts: Sequence[Draft]) -> None:
        """Raises whatever the production turn raises; the tenure is then over."""

    async def retake(self) -> None:
        """Another process takes the shard."""


async def feed(fuzzed: Fuzzed, drafts: Sequence[Draft], *, where: str) -> None:
    """One batch. Raises Broken with the smallest record that does it alone, or after those before it."""
    try:
        await fuzzed.turn(drafts)
    except Exception as error:
        culprit = await _culprit(fuzzed, drafts)
        shown = "no single one of them" if culprit is None else repr(culprit)
        raise Broken(f"{where}: the turn raised {type(error).__name__}: {error}\nrecord: {shown[:4_000]}") from error


async def _culprit(fuzzed: Fuzzed, drafts: Sequence[Draft]) -> Draft | None:
    """A turn that raised has committed nothing: the half that raises again holds it."""
    while len(drafts) > 1:
        await fuzzed.retake()
        half = len(drafts) // 2
        raised = await _raises(lambda part=drafts[:half]: fuzzed.turn(part))  # type: ignore[misc]
        drafts = drafts[:half] if raised else drafts[half:]
    await fuzzed.retake()
    return drafts[0] if await _raises(lambda: fuzzed.turn(drafts)) else None


async def _raises(work: Callable[[], Awaitable[Any]]) -> bool:
    try:
        await work()
    except Exception:
        return True
    return False


def of_fate(counts: Mapping[str, int], fate: Fate) -> Counter[str]:
    """Those of an account whose reasons mean that fate."""
    return Counter({reason: n for reason, n in counts.items() if FATES[reason] is fate})


def same(found: object, wanted: object, what: str, where: str) -> None:
    """Raises Broken."""
    if found != wanted:
        raise Broken(f"{where}: {what}: {found!r} in the database, {wanted!r} in the account")

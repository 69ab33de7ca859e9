"""Mutated records through both sides, a hundred thousand in their own ring; and that a fault would not pass unnoticed.

SAGABUS_FUZZ_RECORDS and SAGABUS_FUZZ_SEED choose another run; `python -m tests.hostile.fuzz` is the long one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from random import Random

import pytest

from sagabus.contracts.reasons import FATES, MEANINGS, Fate
from tests.hostile.bench import Broken, feed
from tests.hostile.fuzz import by_fate, fuzz
from tests.hostile.mutation import Mutator
from tests.hostile.seeds import Draft, atoms, header_values, records

FEW = 5_000
RECORDS = int(os.environ.get("SAGABUS_FUZZ_RECORDS", "100000"))
SEED = int(os.environ.get("SAGABUS_FUZZ_SEED", "20261122"))


@pytest.mark.parametrize("many", [FEW, pytest.param(RECORDS, marks=pytest.mark.ring("fuzz"))])
async def test_the_account_of_mutated_records_is_exact(database: str, many: int) -> None:
    """No turn raises, nothing is stopped by a fault of ours, every witness goes through."""
    report = await fuzz(database, records=many, seed=SEED)
    assert report.records >= many
    assert report.witnesses >= report.batches // 3
    assert sum(report.coordinator.values()) + sum(report.participant.values()) == report.records
    for counts in (report.coordinator, report.participant):
        sums = by_fate(counts)
        assert min(sums[Fate.APPLIED], sums[Fate.DUPLICATE], sums[Fate.IGNORED], sums[Fate.DEAD_LETTER]) > 0


class Touchy:
    """A side that cannot bear one record."""

    def __init__(self) -> None:
        self.turns = 0

    async def turn(self, drafts: Sequence[Draft]) -> None:
        self.turns += 1
        if any(draft.key == b"57" for draft in drafts):
            raise ZeroDivisionError("57")

    async def retake(self) -> None: ...


async def test_a_turn_that_raises_is_a_failure_with_the_record_that_did_it() -> None:
    touchy, drafts = Touchy(), [Draft("t", b"%d" % number, None) for number in range(100)]
    with pytest.raises(Broken, match=r"seed 4.*ZeroDivisionError(.|\n)*key=b'57'"):
        await feed(touchy, drafts, where="seed 4")
    assert touchy.turns < 12


def test_the_same_seed_makes_the_same_changes() -> None:
    def changed(seed: int) -> list[Draft]:
        mutator = Mutator(Random(seed), ("a", "b"))
        return [mutator.mutate(records()[number % len(records())], records()) for number in range(500)]

    assert changed(1) == changed(1)
    assert changed(1) != changed(2)
    assert len(atoms()) > 50 < len(header_values())


def test_every_word_of_the_account_has_one_meaning() -> None:
    assert MEANINGS.keys() == FATES.keys()
    assert all(MEANINGS.values())

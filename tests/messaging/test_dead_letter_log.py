"""Each dead letter is one line of the log, after the commit, with what a person needs; a flood is counted."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from sagabus.commands.main import parser
from sagabus.contracts.envelope import Record
from sagabus.contracts.names import OWN_SERVICE
from sagabus.messaging.publishing.dead_letter_log import LINES_OF_A_TURN, DeadLetterLog
from tests.messaging.shards_fixture import Given, Shards, opened


@pytest.fixture
async def shards(database: str, namespace: str) -> AsyncIterator[Shards]:
    async with opened(database, namespace) as shards:
        yield shards


def record(key: bytes | None, offset: int = 7) -> Record:
    return Given(offset=offset, key=key)


def told(caplog: pytest.LogCaptureFixture, by: str, *records: Record) -> list[str]:
    log = DeadLetterLog(by)
    for one in records:
        log.take(one, reason="payload.invalid", message="the body is no JSON")
    with caplog.at_level(logging.WARNING):
        log.tell()
    return [line.getMessage() for line in caplog.records]


def test_a_dead_letter_is_one_line_with_saga_reason_words_and_cure(caplog: pytest.LogCaptureFixture) -> None:
    assert told(caplog, OWN_SERVICE, record(b"ORD-1")) == [
        "dead letter payload.invalid of saga ORD-1 at in:0:7: the body is no JSON; "
        "see `sagabus dead-letters list --saga=ORD-1`"
    ]
    assert (caplog.records[0].levelname, caplog.records[0].saga_id) == ("WARNING", "ORD-1")  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", [None, b"", b"\xff; rm -rf ~", b"k" * 100_000])
def test_a_key_that_is_no_saga_id_is_shown_in_part_and_typed_by_nobody(
    caplog: pytest.LogCaptureFixture, key: bytes | None
) -> None:
    (line,) = told(caplog, "payment", record(key))
    assert len(line) < 500
    command = line.rpartition("see `")[2].rstrip("`").split()[1:]
    options = parser(command).parse_args(command)
    assert (options.service, options.saga, options.reason_code) == ("payment", None, "payload.invalid")


def test_a_flood_is_ten_lines_and_a_count(caplog: pytest.LogCaptureFixture) -> None:
    lines = told(caplog, OWN_SERVICE, *(record(b"ORD-%d" % n) for n in range(10_000)))
    assert len(lines) == LINES_OF_A_TURN + 1
    assert lines[-1] == "9990 more dead letters: 9990 × payload.invalid; see `sagabus dead-letters list`"


async def test_nothing_is_told_of_what_was_not_committed(shards: Shards, caplog: pytest.LogCaptureFixture) -> None:
    tenure = await shards.take()
    turn = shards.turn({tenure: []})
    turn.dead_letter(tenure, record(b"ORD-1"), reason="test", message="…")
    with suppress(TimeoutError), caplog.at_level(logging.WARNING):
        async with shards.database.transaction() as connection:
            await turn.write(connection)
            raise TimeoutError("a commit that was not heard of")
    assert "dead letter" not in caplog.text
    turn = shards.turn({tenure: []})
    turn.dead_letter(tenure, record(b"ORD-1"), reason="test", message="…")
    async with shards.database.transaction() as connection:
        await turn.write(connection)
    turn.committed()
    assert caplog.text.count("dead letter test of saga ORD-1") == 1

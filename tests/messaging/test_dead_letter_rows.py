"""Dead letters and parked rows, for people: taken by one at a time, sent again as they came, deleted after that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest

from sagabus.contracts.envelope import Headers
from sagabus.messaging.publishing import dead_letter, outbox
from sagabus.messaging.publishing.dead_letter_rows import DeadLetterRows, Letter, NotWhole, Repair, Wanted, again
from sagabus.messaging.publishing.parked_rows import ParkedRows
from sagabus.messaging.publishing.relay import Parking
from tests.messaging.shards_fixture import Given, Shards, message, opened


@pytest.fixture
async def shards(database: str, namespace: str) -> AsyncIterator[Shards]:
    async with opened(database, namespace) as shards:
        yield shards


async def _box(shards: Shards, *records: tuple[str, Given]) -> DeadLetterRows:
    rows = [dead_letter.row_of(0, record, reason=reason, message="…") for reason, record in records]
    async with shards.database.transaction() as connection:
        await dead_letter.append(connection, shards.schema, rows)
    return DeadLetterRows(shards.database, shards.schema)


async def test_letters_are_listed_newest_first_and_counted_by_reason(shards: Shards) -> None:
    box = await _box(
        shards, ("a", Given(key=b"ORD-1")), ("b", Given(key=b"ORD-2", topic="other")), ("a", Given(key=None))
    )
    assert [one.id for one in await box.newest(Wanted(), limit=2)] == [3, 2]
    assert await box.totals(Wanted()) == {"a": 2, "b": 1}
    assert await box.ids(Wanted(reason="a")) == [1, 3]
    assert await box.ids(Wanted(saga="ORD-2")) == [2]
    assert await box.ids(Wanted(topic="in", reason="b")) == []
    assert await box.letter(4) is None


async def test_a_letter_in_one_persons_hands_is_in_nobody_elses(shards: Shards) -> None:
    """Neither in those of a second operator, who would send it twice, nor of retention."""
    box = await _box(shards, ("a", Given()), ("a", Given(offset=1)))
    async with box.taken([1]) as first, box.taken([1, 2]) as second:
        assert [one.id for one in first] == [1]
        assert [one.id for one in second] == [2]
    assert await box.ids(Wanted()) == []


async def test_a_letter_is_kept_when_its_replay_is_cut_off(shards: Shards) -> None:
    box = await _box(shards, ("a", Given()))
    held = asyncio.Event()

    async def hold() -> None:
        async with box.taken([1]):
            held.set()
            await asyncio.Event().wait()

    replay = asyncio.create_task(hold())
    await held.wait()
    replay.cancel()
    await asyncio.wait([replay])
    assert await box.ids(Wanted()) == [1]


@pytest.mark.parametrize("failure", [RuntimeError("Kafka"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
async def test_a_letter_is_kept_when_it_cannot_be_published(shards: Shards, failure: BaseException) -> None:
    box = await _box(shards, ("a", Given()))
    try:
        async with box.taken([1]):
            raise failure
    except type(failure):
        pass
    assert await box.ids(Wanted()) == [1]


def _letter(headers: Headers = (), key: bytes | None = b"\xff", value: bytes | None = b"\x00") -> Letter:
    return Letter(1, 0, "a", "…", "in", 3, 7, 0, datetime.now(UTC), key, headers, value)


@pytest.mark.parametrize("key", [None, b"", b"\xff\x00", b"ORD-1"])
def test_a_replayed_record_is_the_same_byte_for_byte_and_in_its_old_partition(key: bytes | None) -> None:
    headers = (("a", b"\xff"), ("a", b""), ("ce_id", b"x"))
    sent = again(_letter(headers, key=key, value=None))
    assert (sent.topic, sent.partition, sent.key, sent.value, sent.headers) == ("in", 3, key, None, headers)


def test_what_we_added_to_a_record_is_left_off() -> None:
    headers = (("ce_forwarded", b"in:1:2"), ("x-dlt-reason", b"a"), ("ce_id", b"in:1:2"), ("x-own", b"1"))
    assert again(_letter(headers)).headers == (("ce_id", b"in:1:2"), ("x-own", b"1"))


def test_a_repaired_record_has_what_was_repaired_and_the_rest_as_it_came() -> None:
    letter = _letter((("ce_type", b"wrong"), ("b", b"2"), ("ce_type", b"too")))
    sent = again(letter, Repair(value=b"{}", headers=(("ce_type", b"right"),)))
    assert (sent.key, sent.value, sent.partition) == (b"\xff", b"{}", 3)
    assert sent.headers == (("b", b"2"), ("ce_type", b"right"))
    other = again(letter, Repair(key=b"ORD-1"))
    assert (other.key, other.value, other.partition) == (b"ORD-1", b"\x00", None)


def test_a_letter_that_is_not_whole_is_sent_again_only_if_what_is_missing_is_given() -> None:
    letter = _letter((("a", b"1"), ("x-dlt-cut-key", b"x"), ("x-dlt-cut-value", b"x")))
    wanting = ((Repair(), {"key", "value"}), (Repair(value=b"{}"), {"key"}), (Repair(key=b"A"), {"value"}))
    for repair, missing in wanting:
        with pytest.raises(NotWhole, match=r"not whole.* in, partition 3, offset 7.*give --") as caught:
            again(letter, repair)
        assert caught.value.parts == missing
    sent = again(letter, Repair(key=b"ORD-1", value=b"{}"))
    assert (sent.key, sent.value, sent.headers) == (b"ORD-1", b"{}", (("a", b"1"),))
    with pytest.raises(NotWhole, match="its headers"):
        again(_letter((("x-dlt-cut-headers", b"x"),)), Repair(key=b"ORD-1", value=b"{}"))


async def test_s8_parked_sagas_are_listed_with_their_first_reason_and_released_by_name_or_topic(shards: Shards) -> None:
    await _park(shards, ("A", "gone"), ("B", "large"), ("A", "out"), ("C", "gone"))
    rows = ParkedRows(shards.database, shards.schema)
    listed = await rows.sagas(limit=10)
    assert {(one.saga_id, one.rows, one.topic) for one in listed} == {
        ("A", 2, "gone"),
        ("B", 1, "large"),
        ("C", 1, "gone"),
    }
    assert {one.saga_id for one in await rows.sagas(topic="gone", limit=10)} == {"A", "C"}
    assert len(await rows.sagas(limit=1)) == 1
    assert await rows.release(["D"], reason="why") == []
    assert await rows.release(["B", "D"], reason="why") == ["B"]
    assert [one.saga_id for one in await rows.sagas(limit=10) if one.released_at] == ["B"]
    assert await rows.release(None, topic="gone", reason="again") == ["A", "C"]
    async with shards.database.transaction() as connection:
        released = await outbox.released(connection, shards.schema, [0])
    assert [(one.message.saga_id, one.message.topic, one.word) for one in released] == [
        ("A", "gone", "again"), ("B", "large", "why"), ("A", "out", "again"), ("C", "gone", "again"),
    ]  # fmt: skip


async def test_s8_one_turn_brings_back_so_many_sagas_each_of_them_whole(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "RELEASES", 2)
    await _park(shards, ("A", "out"), ("B", "out"), ("C", "out"), ("A", "out"))
    await ParkedRows(shards.database, shards.schema).release(None, reason="why")
    async with shards.database.transaction() as connection:
        released = await outbox.released(connection, shards.schema, [0])
    assert [one.message.saga_id for one in released] == ["A", "B", "A"]


async def _park(shards: Shards, *rows: tuple[str, str]) -> None:
    tenure = await shards.take()
    sent: Sequence[tuple[int, tuple[str, str]]] = list(enumerate(rows, 1))
    await shards.write({tenure: []}, *(message(at, saga=saga, topic=topic) for at, (saga, topic) in sent))
    tenure.relay.parkings[:] = [Parking(saga, at, f"no {topic}") for at, (saga, topic) in sent]
    await shards.write({tenure: []})

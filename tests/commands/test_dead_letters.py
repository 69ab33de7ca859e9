"""`sagabus dead-letters`: looked through, shown, repaired and sent again, dropped; parked sagas listed and released."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from sagabus.commands.dead_letters.cures import CURES
from sagabus.commands.dead_letters.replay import DeadLetterReplay
from sagabus.commands.main import main, parser
from sagabus.commands.subcommand import Exit
from sagabus.contracts.reasons import FATES, MEANINGS, Fate
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.bus.topic_admin import TopicSpec
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.postgres.tables import qualified
from sagabus.messaging.publishing import dead_letter
from sagabus.messaging.publishing.dead_letter_rows import AS_IT_WAS, DeadLetterRows, Wanted
from tests.messaging.clusters import read, real_kafka
from tests.messaging.shards_fixture import Given, Recorder

Capture = pytest.CaptureFixture[str]


class ServiceFixture:
    """A coordinator's tables with a topic beside them, and the settings that lead there."""

    def __init__(self, database: str, schema: str, kafka: str | None) -> None:
        self.database = database
        self.schema = schema
        self.kafka: Kafka | None = real_kafka(kafka) if kafka else None

    def letters(self, *records: tuple[str, Given]) -> list[int]:
        """Make these dead letters; their ids."""
        rows = [dead_letter.row_of(1, record, reason=reason, message=f"{reason}!") for reason, record in records]

        async def make(database: Database) -> list[int]:
            async with database.transaction() as connection:
                await dead_letter.append(connection, self.schema, rows)
            return (await DeadLetterRows(database, self.schema).ids(Wanted()))[-len(rows) :]

        made: list[int] = self.on_database(make)
        return made

    def left(self) -> list[int]:
        left: list[int] = self.on_database(lambda database: DeadLetterRows(database, self.schema).ids(Wanted()))
        return left

    def on_database(self, work: Callable[[Database], Any]) -> Any:
        async def run() -> Any:
            database = Database(self.database)
            try:
                return await work(database)
            finally:
                await database.stop()

        return asyncio.run(run())

    def topic(self, partitions: int = 4) -> str:
        assert self.kafka is not None
        asyncio.run(self.kafka.create_topics({self.schema: TopicSpec(partitions)}))
        return self.schema

    def read(self) -> dict[int, Sequence[Any]]:
        assert self.kafka is not None
        return {place: records for place, records in asyncio.run(read(self.kafka, self.schema)).items() if records}


@pytest.fixture
def fixture(
    request: pytest.FixtureRequest, database: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> ServiceFixture:
    """Kafka is there for tests that ask for it."""
    kafka = request.getfixturevalue("kafka") if "kafka" in request.fixturenames else None
    monkeypatch.setenv("SAGABUS_DATABASE", database)
    monkeypatch.setenv("SAGABUS_NAMESPACE", namespace)
    monkeypatch.setenv("SAGABUS_KAFKA", kafka or "127.0.0.1:1")
    asyncio.run(migrate(database, namespace))
    return ServiceFixture(database, namespace, kafka)


def told(capsys: Capture, *words: str, exit: Exit = Exit.DONE) -> str:
    assert main(["dead-letters", *words]) == exit
    return capsys.readouterr().out


def answer(capsys: Capture, *words: str, exit: Exit = Exit.DONE) -> Any:
    return json.loads(told(capsys, *words, "--json", exit=exit))


def test_every_reason_that_there_is_has_a_cure() -> None:
    letters = {reason for reason, fate in FATES.items() if fate is Fate.DEAD_LETTER}
    assert letters == CURES.keys()
    assert letters <= MEANINGS.keys()


def test_the_list_has_the_newest_first_and_a_total_for_each_reason(fixture: ServiceFixture, capsys: Capture) -> None:
    fixture.letters(
        *[("saga.closed", Given(key=b"ORD-1"))] * 2, ("payload.not_json", Given(key=b"\xff\x1b[2J", topic="t"))
    )
    listed = answer(capsys, "list", "--limit", "2")
    assert [one["id"] for one in listed["letters"]] == [3, 2]
    assert (listed["total"], listed["by_reason"]) == (3, {"saga.closed": 2, "payload.not_json": 1})
    assert [one["id"] for one in answer(capsys, "list", "--saga", "ORD-1")["letters"]] == [2, 1]
    assert answer(capsys, "list", "--topic", "t", "--reason-code", "saga.closed")["total"] == 0
    text = told(capsys, "list")
    assert "       2  saga.closed\n" in text
    assert text.endswith("       3  in all\n")
    assert "\x1b" not in text, "what strangers send must not reach the terminal"


def test_a_letter_is_shown_whole_with_meaning_and_cure(fixture: ServiceFixture, capsys: Capture) -> None:
    record = Given(key=b"ORD-1", value=b'{"a": \xff}', headers=(("ce_id", b"x"), ("raw", b"\xff")))
    (id,) = fixture.letters(("payload.not_json", record))
    shown = answer(capsys, "show", str(id))
    assert base64.b64decode(shown["value_base64"]) == record.value
    assert (shown["value"], shown["key"]) == (None, "ORD-1")
    assert [(one["name"], one["value"], base64.b64decode(one["value_base64"])) for one in shown["headers"]] == [
        ("ce_id", "x", b"x"),
        ("raw", None, b"\xff"),
    ]
    text = told(capsys, "show", str(id))
    assert MEANINGS["payload.not_json"] in text
    assert CURES["payload.not_json"] in text
    assert "header raw: \\xff" in text
    assert 'value: {"a": \\xff}' in text


@pytest.mark.parametrize(
    "verb", [("list",), ("show", "1"), ("replay", "1"), ("drop", "1", "--reason", "r"), ("parked",)]
)
def test_of_a_service_without_tables_it_says_where_its_dead_letters_are(
    fixture: ServiceFixture, capsys: Capture, verb: Sequence[str], kafka: str
) -> None:
    assert main(["dead-letters", *verb, "--service", "courier"]) == Exit.USAGE
    said = capsys.readouterr().err
    assert "the schema sagabus_courier is not in this database, or not up to date: run `sagabus migrate MODULE`" in said
    where = f"the topic {fixture.schema}.dead-letters whose header x-dlt-by is courier"
    assert (
        f"If courier is written without our kit, it has no such tables: its dead letters are records of {where}" in said
    )


def test_a_reason_of_another_version_is_shown_as_well(fixture: ServiceFixture, capsys: Capture) -> None:
    (id,) = fixture.letters(("brand.new", Given(key=None, value=None)))
    assert "another version" in told(capsys, "show", str(id))


def test_a_letter_is_replayed_as_it_came_and_is_gone(fixture: ServiceFixture, kafka: str, capsys: Capture) -> None:
    headers = (("ce_id", b"1"), ("ce_forwarded", b"a:0:0"), ("bin", b"\xff"))
    record = Given(topic=fixture.topic(), partition=2, key=b"ORD-1", value=b"\x00\xff", headers=headers)
    (id,) = fixture.letters(("forwarded.twice", record))
    assert answer(capsys, "replay", str(id)) == {"replayed": [id], "refused": {}, "absent": []}
    ((sent,),) = fixture.read().values()
    assert (sent.partition, sent.key, sent.value) == (2, b"ORD-1", b"\x00\xff")
    assert sent.headers == (("ce_id", b"1"), ("bin", b"\xff"))
    assert fixture.left() == []


def test_a_letter_is_replayed_repaired(
    fixture: ServiceFixture, kafka: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = fixture.topic()
    first, second = fixture.letters(*[("payload.not_json", Given(topic=topic, partition=1, key=None, value=b"{"))] * 2)
    (tmp_path / "right.json").write_bytes(b"{}\n")
    told(capsys, "replay", str(first), "--value", str(tmp_path / "right.json"), "--header", "ce_id=7")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"[]")))
    told(capsys, "replay", str(second), "--value", "-", "--key", "ORD-1")
    sent = {record.value: record for records in fixture.read().values() for record in records}
    assert (sent[b"{}\n"].partition, sent[b"{}\n"].key, sent[b"{}\n"].headers) == (1, None, (("ce_id", b"7"),))
    assert sent[b"[]"].key == b"ORD-1"
    assert fixture.left() == []


def test_all_of_a_reason_are_replayed_oldest_first_and_those_that_kafka_refuses_stay(
    fixture: ServiceFixture, kafka: str, capsys: Capture
) -> None:
    topic = fixture.topic(1)
    wanted = [("saga.closed", Given(topic=topic, value=b"%d" % number)) for number in range(250)]
    ids = fixture.letters(
        *wanted[:120], ("saga.closed", Given(topic="no.such.topic")), *wanted[120:], ("late", Given())
    )
    assert main(["dead-letters", "replay", "--all", "--reason-code", "saga.closed", "--json"]) == Exit.REFUSED
    out, progress = capsys.readouterr()
    made = json.loads(out)
    assert (len(made["replayed"]), list(made["refused"])) == (250, [str(ids[120])])
    assert "unknown_topic" in made["refused"][str(ids[120])]
    assert "250 of 251 replayed" in progress
    assert [int(record.value) for record in fixture.read()[0]] == list(range(250))
    assert fixture.left() == [ids[120], ids[-1]]


async def test_what_comes_back_as_a_letter_meanwhile_is_not_replayed_again(database: str, namespace: str) -> None:
    """Else what is misunderstood again would go round for ever."""
    await migrate(database, namespace)
    pool = Database(database)
    box = DeadLetterRows(pool, namespace)

    class Echo:
        async def publish(self, messages: Sequence[Any]) -> None:
            await add(len(messages))

    async def add(count: int) -> None:
        rows = [dead_letter.row_of(0, Given(), reason="a", message="…")] * count
        async with pool.transaction() as connection:
            await dead_letter.append(connection, namespace, rows)

    await add(3)
    replay = DeadLetterReplay(box, Echo(), AS_IT_WAS)
    await replay.all(await box.ids(Wanted()), progress=lambda _: None)
    assert (replay.replayed, await box.ids(Wanted())) == ([1, 2, 3], [4, 5, 6])
    await pool.stop()


def test_dropped_letters_are_printed_whole_before_they_are_gone(fixture: ServiceFixture, capsys: Capture) -> None:
    first, second = fixture.letters(("saga.closed", Given(value=b"\xff")), ("late", Given()))
    dropped = answer(capsys, "drop", str(first), "--reason", "a test of ours")
    assert (dropped["id"], base64.b64decode(dropped["value_base64"])) == (first, b"\xff")
    assert dropped["dropped_because"] == "a test of ours"
    assert f"dropped: {second} late" in told(capsys, "drop", "--all", "--reason-code", "late", "--reason", "x")
    assert fixture.left() == []


def test_dropped_letters_that_look_alike_are_told_by_the_first_of_them_and_their_number(
    fixture: ServiceFixture, capsys: Capture
) -> None:
    same, other = Given(key=b"A"), Given(key=b"B")
    ids = fixture.letters(*[("late", same), ("late", other)] * 2, ("late", same))
    lines = told(capsys, "drop", "--all", "--reason-code", "late", "--reason", "x").splitlines()
    assert [line.partition(" late")[0] for line in lines] == [
        f"dropped: {ids[0]}", f"dropped: {ids[1]}", f"dropped: 2 more like {ids[0]}, the last of them {ids[4]}",
        f"dropped: 1 more like {ids[1]}, the last of them {ids[3]}",
    ]  # fmt: skip
    assert fixture.left() == []


def test_each_of_the_dropped_letters_that_look_alike_is_there_as_json(fixture: ServiceFixture, capsys: Capture) -> None:
    ids = fixture.letters(*[("late", Given(key=b"A"))] * 3)
    lines = told(capsys, "drop", *map(str, ids), "--reason", "x", "--json")
    assert lines.count('"dropped_because"') == 3


def test_the_usual_cure_of_an_event_to_a_closed_saga_does_not_lose_one_that_was_meant_for_another() -> None:
    assert "meant for another saga? replay it with --key ID" in CURES["saga.closed"].partition("drop it")[0]
    assert "`sagabus show ID`" in CURES["headers.missing"].partition("--header")[0]


@pytest.mark.parametrize("words", [["show", "7"], ["drop", "7", "--reason", "x"], ["unpark", "A", "--reason", "x"]])
def test_what_is_not_there_is_said(fixture: ServiceFixture, words: list[str], capsys: Capture) -> None:
    assert main(["dead-letters", *words]) == Exit.NOT_FOUND
    assert words[1] in capsys.readouterr().err


@pytest.mark.parametrize("together", [False, True])
def test_a_letter_that_is_not_whole_stays_and_the_place_of_the_whole_is_named(
    fixture: ServiceFixture, together: bool
) -> None:
    ids = fixture.letters(("a", Given(offset=41, value=bytes(2 * 1024 * 1024))), ("a", Given(offset=42)))

    async def replayed(database: Database) -> DeadLetterReplay:
        replay = DeadLetterReplay(DeadLetterRows(database, fixture.schema), Recorder(), AS_IT_WAS)
        await (replay.all(ids, progress=lambda _: None) if together else replay.each(ids))
        return replay

    replay = fixture.on_database(replayed)
    assert (replay.replayed, list(replay.refused)) == ([ids[1]], [ids[0]])
    assert "it is not whole" in replay.refused[ids[0]]
    assert "in, partition 0, offset 41" in replay.refused[ids[0]]
    assert fixture.left() == [ids[0]]


def test_what_another_operator_holds_is_refused(fixture: ServiceFixture, capsys: Capture) -> None:
    (id,) = fixture.letters(("saga.closed", Given()))

    async def both(database: Database) -> int:
        async with DeadLetterRows(database, fixture.schema).taken([id]):
            command = ["dead-letters", "drop", str(id), "--reason", "x"]
            return await asyncio.to_thread(main_in_thread, command)

    assert fixture.on_database(both) == Exit.REFUSED
    assert "is being handled by another operator at this moment" in capsys.readouterr().err


def main_in_thread(words: list[str]) -> int:
    """`main` sets signal handlers, which only the main thread may."""
    options = parser(words).parse_args(words)
    try:
        return int(asyncio.run(options.subcommand.run(options)))
    except Exception as error:
        print(error, file=sys.stderr)
        return int(getattr(error, "exit", 70))


@pytest.mark.parametrize(
    "words",
    [
        ["replay"],
        ["replay", "1", "--all", "--reason-code", "x"],
        ["replay", "--all"],
        ["replay", "1", "--topic", "x"],
        ["replay", "--all", "--topic", "x", "--key", "y"],
        ["replay", "1", "--value", "no/such/file"],
        ["drop", "--reason", "x"],
        ["unpark", "--reason", "x"],
        ["unpark", "A", "--all", "--reason", "x"],
        ["list", "--service", "sagabus"],
        ["list", "--service", "inventory"],
    ],
)
def test_what_makes_no_sense_is_usage(fixture: ServiceFixture, words: list[str]) -> None:
    assert main(["dead-letters", *words]) == Exit.USAGE


def test_without_kafka_nothing_is_lost(
    fixture: ServiceFixture, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sagabus.commands.dead_letters.service_tables.WAIT_SECONDS", 0.1)
    (id,) = fixture.letters(("saga.closed", Given()))
    assert main(["dead-letters", "replay", str(id)]) == Exit.UNREACHABLE
    assert fixture.left() == [id]


def test_s8_parked_sagas_of_a_service_are_listed_and_released(fixture: ServiceFixture, capsys: Capture) -> None:
    assert main(["migrate", "sagabus.shop.inventory"]) == Exit.DONE
    table = qualified("sagabus_inventory", "outbox_parked")

    async def park(database: Database) -> None:
        async with database.transaction() as connection:
            await connection.execute(
                f"INSERT INTO {table} (shard, position, saga_id, topic, headers, reason) "
                "VALUES (1, 1, 'ORD-1', 'inventory.events', '', 'gone'), (1, 2, 'ORD-1', 'x', '', 'behind')"
            )

    fixture.on_database(park)
    capsys.readouterr()
    (parked,) = answer(capsys, "parked", "--service", "inventory")
    assert (parked["saga_id"], parked["rows"], parked["topic"], parked["reason"]) == (
        "ORD-1",
        2,
        "inventory.events",
        "gone",
    )
    assert told(capsys, "parked") == "nothing is parked\n"
    released = answer(capsys, "unpark", "ORD-1", "--service", "inventory", "--reason", "the topic is back")
    assert released == {"released": ["ORD-1"]}
    assert "is to be sent again" in told(capsys, "parked", "--service", "inventory")
    assert answer(capsys, "unpark", "--all", "--reason", "x") == {"released": []}

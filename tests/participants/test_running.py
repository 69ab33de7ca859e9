"""A participant that runs: on a real Kafka and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from sagabus.contracts import Service
from sagabus.contracts.commands import Addresses, command_message
from sagabus.contracts.envelope import Message, Record
from sagabus.contracts.headers import HeaderReader
from sagabus.contracts.names import CommandKind, RunId, SagaId
from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.bus.topic_admin import TopicSpec
from sagabus.messaging.database_url import sqlalchemy_url
from sagabus.messaging.service.prerequisites import NotReady, participant_topics
from sagabus.messaging.settings import SettingsError, load_settings
from sagabus.participants import ActivityContext, ExternalContext, Participant, PartitionsChanged
from tests.participants.service_fixture import Noted, Take, Taken

PARTITIONS = 3


class Shop:
    """A service with a name of its own, and who sends it commands."""

    def __init__(self, name: str, kafka: str) -> None:
        self.name = name
        self.service = Service(name)
        self.take = self.service.activity("take", Take, Taken)
        self.charge = self.service.activity("charge", Take)
        self.noted = self.service.event("noted", Noted)
        self.kafka = Kafka(load_settings(require=("kafka",), kafka=kafka, namespace=name))

    async def make_topics(self) -> None:
        await self.kafka.create_topics(
            {topic: TopicSpec(PARTITIONS) for topic in participant_topics(self.service, self.name)}
        )

    async def send(self, *messages: Message) -> None:
        producer = self.kafka.producer()
        await producer.start()
        try:
            await producer.publish(messages)
        finally:
            await producer.stop()

    def command(self, saga: str, activity: Any, shard: int = 1) -> Message:
        addresses = Addresses(self.name, b"/sagabus/test", SagaId(saga), RunId("r"), shard)
        return command_message(
            addresses, service=self.name, activity=activity.name, step=1, kind=CommandKind.DO, attempt=1,
            issued=1, time=1, cause="test", body=b'{"item":"book"}', partition=shard,
        )  # fmt: skip

    @asynccontextmanager
    async def replies(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka.address, auto_offset_reset="earliest")
        await consumer.start()
        topics = f"{self.name}.replies.{self.name}", f"{self.name}.events"
        consumer.assign([TopicPartition(topic, shard) for topic in topics for shard in range(PARTITIONS)])
        try:
            yield consumer
        finally:
            await consumer.stop()


@pytest.fixture
def own(kafka: str, namespace: str, database: str, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("SAGABUS_KAFKA", kafka)
    monkeypatch.setenv("SAGABUS_NAMESPACE", namespace)
    monkeypatch.setenv("SAGABUS_DATABASE", database)
    return Shop(namespace, kafka)


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(sqlalchemy_url(database))
    yield engine
    await engine.dispose()


async def made(engine: AsyncEngine, participant: Participant[Any]) -> None:
    async with engine.begin() as connection:
        await participant.create_tables(connection)
        await participant.create_tables(connection)  # repeatable


async def test_s11_it_does_not_start_with_another_number_of_partitions(own: Shop, engine: AsyncEngine) -> None:
    """None is stored beside those that there are, and the sentence says how to go on."""
    participant = Participant(own.service)
    await made(engine, participant)
    await own.make_topics()
    stored = text(
        f"INSERT INTO sagabus_{own.name}.shard (shard, token, turn, cluster, generation, partitions, topics, "
        "next_position, relay_position) VALUES (0, gen_random_uuid(), 1, 'c', 1, 12, '{}', 1, 0)"
    )
    async with engine.begin() as connection:
        await connection.execute(stored)
    with pytest.raises(
        PartitionsChanged, match=rf"{own.name}\.commands has 3 partitions.*stored with 12.*sagabus topics"
    ):
        async with participant.running():
            raise AssertionError
    async with engine.connect() as connection:
        rows = await connection.execute(text(f"SELECT shard, partitions FROM sagabus_{own.name}.shard"))
        assert [tuple(row) for row in rows] == [(0, 12)]


def said(record: Record) -> Mapping[str, str | None]:
    headers = HeaderReader(record.headers)
    return {name: headers.text(name) for name in ("ce_type", "ce_subject")}


async def test_it_does_not_start_without_tables_or_topics(own: Shop, engine: AsyncEngine) -> None:
    participant = Participant(own.service)
    with pytest.raises(NotReady, match=rf"sagabus_{own.name}: dead_letter, inbox, .*shard; run `sagabus migrate`"):
        async with participant.running():
            raise AssertionError
    await made(engine, participant)
    with pytest.raises(NotReady, match=rf"{own.name}\.commands.*run `sagabus topics`"):
        async with participant.running():
            raise AssertionError


async def test_all_faults_of_the_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SAGABUS_KAFKA", "SAGABUS_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError) as faults:
        async with Participant(Service("nobody")).running():
            raise AssertionError
    assert len(faults.value.faults) == 2


@pytest.mark.parametrize("given", ["engine", "url", "environment"])
async def test_commands_in_replies_and_events_out(own: Shop, engine: AsyncEngine, database: str, given: str) -> None:
    entered: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[str]:
        entered.append("in")
        yield "resources"
        entered.append("out")

    source: Any = {"engine": engine, "url": database, "environment": None}[given]
    participant = Participant(own.service, lifespan=lifespan, database=source)

    @participant.handles(own.take)
    async def take(command: Take, ctx: ActivityContext[str]) -> Taken:
        await ctx.session.execute(text("INSERT INTO work VALUES (:what)"), {"what": ctx.saga_id + ctx.resources})
        ctx.publish(own.noted(item=command.item, text=ctx.saga_id))
        return Taken(item=command.item, left=0)

    await made(engine, participant)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE work (what text)"))
    await own.make_topics()
    sagas = [f"S{n}" for n in range(20)]
    await own.send(*(own.command(saga, own.take, n % PARTITIONS) for n, saga in enumerate(sagas)))
    async with own.replies() as consumer, participant.running():
        async with asyncio.timeout(60):
            records = [await consumer.getone() for _ in range(2 * len(sagas))]
    assert entered == ["in", "out"]
    replied = [r for r in records if r.topic.endswith(f".replies.{own.name}")]
    assert {said(r)["ce_type"] for r in replied} == {"sagabus.reply.completed"}
    assert sorted(str(said(r)["ce_subject"]) for r in replied) == sorted(sagas)
    assert {r.partition == int(r.key[1:]) % PARTITIONS for r in replied} == {True}
    async with engine.begin() as connection:
        work = (await connection.scalars(text("SELECT what FROM work"))).all()
    assert sorted(work) == sorted(f"{saga}resources" for saga in sagas)


async def test_leaving_waits_for_what_runs_outside_and_tells_its_outcome(own: Shop, engine: AsyncEngine) -> None:
    participant = Participant(own.service, database=engine)
    running, leave = asyncio.Event(), asyncio.Event()

    @participant.handles(own.charge, transaction=False)
    async def charge(command: Take, ctx: ExternalContext) -> None:
        running.set()
        await leave.wait()

    await made(engine, participant)
    await own.make_topics()
    await own.send(own.command("A", own.charge))
    async with own.replies() as consumer:
        async with participant.running():
            async with asyncio.timeout(60):
                await running.wait()
            asyncio.get_running_loop().call_later(0.2, leave.set)
        async with asyncio.timeout(30):
            assert said(await consumer.getone()) == {"ce_type": "sagabus.reply.completed", "ce_subject": "A"}


async def test_an_outcome_is_told_without_waiting_for_the_beat(own: Shop, engine: AsyncEngine) -> None:
    participant = Participant(own.service, database=engine)
    ended: list[float] = []

    @participant.handles(own.charge, transaction=False)
    async def charge(command: Take, ctx: ExternalContext) -> None:
        await asyncio.sleep(0.01)
        ended.append(time.time())

    await made(engine, participant)
    await own.make_topics()
    waits = []
    async with own.replies() as consumer, participant.running():
        for number in range(8):
            await own.send(own.command(f"S{number}", own.charge))
            async with asyncio.timeout(60):
                reply = await consumer.getone()
            waits.append(reply.timestamp / 1000 - ended[-1])
    assert sorted(waits)[4] < 0.4  # half of all; a beat is a second, and this machine may be busy

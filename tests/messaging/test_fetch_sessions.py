"""Fetch sessions: the broker reads what the fetcher has asked for, whatever happens in between (KIP-227)."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IncompatibleBrokerVersion, KafkaConnectionError, KafkaError
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v4, FetchRequest_v11, FetchResponse_v4
from aiokafka.protocol.metadata import MetadataRequest
from hypothesis import given
from hypothesis import strategies as st

from sagabus.messaging.bus.fetch_messages import Answer, SessionFetch
from sagabus.messaging.bus.fetch_sessions import SESSION_EPOCH_INVALID, SESSION_NOT_FOUND, FetchSessions
from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.bus.topic_admin import TopicSpec
from tests.messaging.clusters import message, numbers, publish
from tests.messaging.test_shard_consumer import reading

Offsets = dict[tuple[str, int], int]
PLACES = [(topic, number) for topic in ("requests", "replies") for number in range(3)]


def request(offsets: Offsets) -> FetchRequest:
    topics: dict[str, list[tuple[int, int, int]]] = {}
    for (topic, number), offset in offsets.items():
        topics.setdefault(topic, []).append((number, offset, 1000))
    return FetchRequest(500, 1, 2000, 1, [*topics.items()])


@dataclass
class Broker:
    """Sessions as KIP-227 says. `reads`: what the last request that was answered made it read."""

    sessions: dict[int, tuple[int, Offsets]] = field(default_factory=dict)
    """Epoch that comes next, and what is read."""
    given: int = 0
    full: bool = False
    old: bool = False
    """It speaks version 4 only, which has no sessions."""
    plain: bool = False
    """It heeds no session, as the embedded bus: what is named is read, and nothing else."""
    reads: Offsets = field(default_factory=dict)
    named: int = 0

    def answer(self, sent: FetchRequest_v11) -> Answer:
        asked = FetchRequest_v11.decode(BytesIO(sent.encode()))
        changed = {(topic, wanted[0]): wanted[2] for topic, all_of in asked.topics for wanted in all_of}
        gone = [(topic, number) for topic, all_of in asked.forgotten_topics_data for number in all_of]
        self.named = len(changed) + len(gone)
        if asked.session_epoch <= 0 or self.plain:
            self.sessions.pop(asked.session_id, None)
            session = 0
            if asked.session_epoch == 0 and not self.full and not self.plain:
                self.given += 1
                session = self.given
                self.sessions[session] = (1, changed)
            self.reads = changed
            return Answer(0, 0, session, [])
        if asked.session_id not in self.sessions:
            return Answer(0, SESSION_NOT_FOUND, 0, [])
        epoch, known = self.sessions[asked.session_id]
        if epoch != asked.session_epoch:
            return Answer(0, SESSION_EPOCH_INVALID, 0, [])
        self.reads = {place: offset for place, offset in {**known, **changed}.items() if place not in gone}
        self.sessions[asked.session_id] = (epoch + 1, self.reads)
        return Answer(0, 0, asked.session_id, [])

    async def send(self, _: int, asked: Any) -> Any:
        sent = asked.prepare({FetchRequest.API_KEY: (0, 4 if self.old else 18)})
        if isinstance(sent, FetchRequest_v4):
            plain = FetchRequest_v4.decode(BytesIO(sent.encode()))
            self.reads = {(topic, wanted[0]): wanted[1] for topic, all_of in plain.topics for wanted in all_of}
            return FetchResponse_v4(0, [])
        return self.answer(sent)


EVENTS = [
    "nothing",
    "forgotten",
    "lost before",
    "lost behind",
    "cancelled",
    "full",
    "room",
    "old",
    "new",
    "plain",
    "foreign",
]
STEPS = st.lists(
    st.tuples(st.dictionaries(st.sampled_from(PLACES[2:5]), st.integers(0, 1)), st.sampled_from(EVENTS)), max_size=20
)


@given(STEPS)
def test_broker_reads_what_was_asked_for_last(steps: list[tuple[Offsets, str]]) -> None:
    asyncio.run(_asked_in_turn(steps))


async def _asked_in_turn(steps: list[tuple[Offsets, str]]) -> None:
    broker, failures = Broker(), iter([""])

    async def send(node: int, asked: Any) -> Any:
        event = next(failures, "")
        if event == "lost before":
            raise KafkaConnectionError("lost")
        answer = await broker.send(node, asked)
        if event == "lost behind":
            raise KafkaConnectionError("lost")
        if event == "cancelled":
            raise asyncio.CancelledError
        return answer

    sessions = FetchSessions(send, heard=lambda: None)
    for offsets, event in steps:
        if event == "forgotten":
            broker.sessions.clear()
        if event == "foreign":  # an epoch that is not ours
            broker.sessions = {session: (epoch + 1, known) for session, (epoch, known) in broker.sessions.items()}
        broker.full = {"full": True, "room": False}.get(event, broker.full)
        broker.old = {"old": True, "new": False}.get(event, broker.old)
        if event == "plain":  # from the beginning: nobody forgets what it knows of sessions
            broker.sessions, broker.plain = {}, True
            sessions = FetchSessions(send, heard=lambda: None)
        failures = iter([event])
        fails = event in ("lost before", "lost behind", "cancelled")
        with pytest.raises((KafkaError, asyncio.CancelledError)) if fails else nullcontext():
            await sessions.send(0, request(offsets))
            assert broker.reads == offsets


async def test_idle_fetch_names_no_partition() -> None:
    broker = Broker()
    sessions = FetchSessions(broker.send, heard=lambda: None)
    offsets = dict.fromkeys(PLACES, 7)
    named = []
    for step in (offsets, offsets, {**offsets, PLACES[2]: 8}, dict.fromkeys(PLACES[1:], 7)):
        await sessions.send(0, request(step))
        named.append(broker.named)
    assert named == [6, 0, 1, 2], "all; none; the one that has moved; one that moved and one that is gone"
    assert len(broker.sessions) == 1


async def test_broker_without_sessions_is_asked_for_all_each_time() -> None:
    for broker in (Broker(plain=True), Broker(full=True), Broker(old=True)):
        sessions = FetchSessions(broker.send, heard=lambda: None)
        for _ in range(3):
            await sessions.send(0, request(dict.fromkeys(PLACES, 7)))
            assert broker.reads == dict.fromkeys(PLACES, 7)


async def test_partition_that_comes_back_at_the_same_offset_is_named_again() -> None:
    broker = Broker()
    sessions = FetchSessions(broker.send, heard=lambda: None)
    for offsets in ({PLACES[0]: 7, PLACES[1]: 7}, {PLACES[1]: 7}, {PLACES[0]: 7, PLACES[1]: 7}):
        await sessions.send(0, request(offsets))
        assert broker.reads == offsets


async def test_each_broker_has_a_session_of_its_own() -> None:
    brokers = [Broker(), Broker()]

    async def send(node: int, asked: Any) -> Any:
        return await brokers[node].send(node, asked)

    sessions = FetchSessions(send, heard=lambda: None)
    for node in (0, 1, 0, 1):
        await sessions.send(node, request({PLACES[node]: 5}))
    assert [broker.reads for broker in brokers] == [{PLACES[0]: 5}, {PLACES[1]: 5}]
    assert [broker.named for broker in brokers] == [0, 0]


async def test_fetch_beside_one_under_way_leaves_the_session_alone() -> None:
    broker, go_on, sent = Broker(), asyncio.Event(), []

    async def send(node: int, asked: Any) -> Any:
        sent.append(asked)
        if len(sent) == 1:
            await go_on.wait()
        return await broker.send(node, asked)

    sessions = FetchSessions(send, heard=lambda: None)
    first = asyncio.create_task(sessions.send(0, request({PLACES[0]: 5})))
    await asyncio.sleep(0)
    beside, other = request({PLACES[1]: 9}), MetadataRequest([])
    await sessions.send(0, beside)
    with pytest.raises(IncompatibleBrokerVersion):  # the broker above takes fetches only
        await sessions.send(0, other)
    go_on.set()
    await first
    assert sent[1:] == [beside, other], "as they are"
    await sessions.send(0, request({PLACES[0]: 6}))
    assert broker.reads == {PLACES[0]: 6}


async def test_other_errors_of_a_fetch_are_raised() -> None:
    async def send(_: int, __: Any) -> Any:
        return Answer(0, 58, 0, [])  # SASL authentication failed

    with pytest.raises(KafkaError):
        await FetchSessions(send, heard=lambda: None).send(0, request({PLACES[0]: 5}))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[SessionFetch]:
    """The fetches that go out."""
    found: list[SessionFetch] = []
    prepare = SessionFetch.prepare

    def noted(self: SessionFetch, versions: Any) -> Any:
        found.append(self)
        return prepare(self, versions)

    monkeypatch.setattr(SessionFetch, "prepare", noted)
    return found


async def test_real_broker_keeps_a_session_and_gives_another_when_it_has_dropped_it(
    real: Kafka, namespace: str, sent: list[SessionFetch]
) -> None:
    await real.create_topics({namespace: TopicSpec(4)})
    places = [TopicPartition(namespace, number) for number in range(4)]
    async with reading(real, *places) as consumer:
        consumer.place(dict.fromkeys(places, 0))
        for number in range(3):
            await publish(real, message(namespace, number, partition=number))
            async with asyncio.timeout(30):
                batch = await consumer.getmany()
            assert [(place.partition, numbers(records)) for place, records in batch.items()] == [(number, [number])]
        sessions = {request._session for request in sent if request._epoch > 1}
        assert len(sessions) == 1
        assert 0 not in sessions
        assert all(len(request._changed) <= 1 for request in sent if request._epoch > 1)
        # Another epoch than the broker expects, as after a request of which nobody knows whether it has arrived.
        fetches = consumer._client.send.__self__
        for session in fetches._sessions.values():
            session._epoch += 5
        consumer.place({places[1]: 0})
        async with asyncio.timeout(30):
            assert numbers((await consumer.getmany())[places[1]]) == [1]
        await publish(real, message(namespace, 9, partition=3))
        async with asyncio.timeout(30):
            assert numbers((await consumer.getmany())[places[3]]) == [9]
        assert sent[-1]._session not in sessions

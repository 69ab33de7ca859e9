"""A reply or event that Kafka will never take: its saga's rows wait at the participant, and are sent when released."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from sagabus.contracts.envelope import Message
from sagabus.messaging.bus.publish_errors import PublishRefused, Reason
from sagabus.messaging.publishing.parked_rows import ParkedRows
from sagabus.messaging.shards.turn import LOOK_FOR_RELEASED_SECONDS
from tests.participants.service_fixture import ServiceFixture, batch, opened, takes


@pytest.fixture
async def fixture(database: str) -> AsyncIterator[ServiceFixture]:
    async with opened(database) as fixture:
        yield fixture


class Small:
    """A broker that takes less than we do. refused: the sagas of which it takes nothing."""

    def __init__(self) -> None:
        self.refused = {"A"}
        self.sent: list[str] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        for one in messages:
            if one.saga_id in self.refused:
                raise PublishRefused(one, Reason.TOO_LARGE, "message.max.bytes is 1,000")
        self.sent += [one.saga_id for one in messages]


async def test_s8_a_reply_that_the_broker_refuses_parks_its_saga_until_it_is_released(fixture: ServiceFixture) -> None:
    calls = takes(fixture)
    tenure, kafka = await fixture.take(), Small()
    tenure.relay.start(kafka, on_end=lambda: None)
    await fixture.turn(tenure, *batch("A", "B"))
    await tenure.relay.below(1)
    await fixture.turn(tenure, *batch("A", "C"))
    await tenure.relay.below(1)
    await fixture.turn(tenure)
    assert sorted(kafka.sent) == ["B", "C"]

    rows = ParkedRows(fixture.database, "sagabus_shop")
    (parked,) = await rows.sagas(limit=10)
    assert (parked.saga_id, parked.rows, parked.topic) == ("A", 2, "sagabus.replies.shop")
    assert "message.max.bytes is 1,000" in parked.reason
    kafka.refused = set()
    await fixture.turn(tenure)
    assert sorted(kafka.sent) == ["B", "C"]
    await rows.release(["A"], reason="the limit is higher")
    fixture.now += LOOK_FOR_RELEASED_SECONDS
    await fixture.turn(tenure)
    await tenure.relay.below(1)
    assert sorted(kafka.sent) == ["A", "A", "B", "C"]
    assert await rows.sagas(limit=10) == []
    assert sorted(calls) == ["A/1", "B/1", "C/1"], "the second reply to A came from the inbox"
    await tenure.relay.stop()

"""P5 from end to end: what a participant has forgotten is neither repeated nor undone, and a person sees it."""

from __future__ import annotations

from sagabus.messaging.shards.retention import Retention
from tests.system.list_bus import PARTITIONS, ListWorld, list_world

WINDOW = 10


async def test_p5_a_command_whose_answer_is_forgotten_puts_its_saga_before_a_person(database: str) -> None:
    async with list_world(database, Retention(inbox=WINDOW)) as world:
        await world.orders([1])
        for shard in range(PARTITIONS):
            world.bus.take("sagabus.replies.inventory", shard)  # the answer is lost
        for _ in range(2 * WINDOW):
            world.bus.now += 1
            for participant in world.parties[1:]:
                await participant.turn()
        assert await rows(world, "SELECT * FROM sagabus_inventory.inbox") == []
        world.bus.now += 31  # the coordinator sends it again
        for _ in range(3):
            await world.orders(())
        [(status, attention)] = await rows(world, "SELECT status, attention FROM sagabus.saga")
        assert status == "running"
        assert "sagabus.inbox_expired" in attention
        for _ in range(5):
            world.bus.now += 60
            await world.orders(())
        kinds = world.bus.kinds
        assert kinds["inventory.reserve_inventory"] == 2
        assert kinds["sagabus.reply.completed"] == kinds["sagabus.reply.failed"] == 1
        assert kinds["inventory.cancel_reservation"] == kinds["sagabus.settle"] == kinds["payment.process_payment"] == 0
        assert kinds["sagabus.saga.attention"] == 1


async def rows(world: ListWorld, sql: str) -> list[tuple[str, ...]]:
    async with world.database.transaction() as connection:
        return [tuple(row) for row in await connection.fetch(sql)]

"""The page on routes: its code runs in `sagabus dev`, and plain records of another team start a saga and wake it."""

from __future__ import annotations

import re

import asyncpg
from aiokafka import AIOKafkaProducer

from sagabus.messaging.embedded.run_file import read_run
from tests.docs.pages import DOCS
from tests.support.conditions import until
from tests.support.dev_host import DevHost
from tests.support.folders import data_folder

PAGE = DOCS / "guide" / "routes.md"


async def test_records_of_another_team_start_a_saga_and_wake_it() -> None:
    with data_folder() as folder:
        (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        (folder / "settling.py").write_text(code)
        with DevHost(folder, "settling"):
            run = read_run(folder / ".sagabus")
            assert run is not None
            await publish(run.kafka, "web.orders", "web.order_placed", b'{"order_no": "7", "total": 100}')
            await publish(run.kafka, "bank.payments", "bank.paid", b'{"order_no": "7", "amount": 70}')
            connection = await asyncpg.connect(run.database)
            ended = (
                "SELECT convert_from(result, 'UTF8') FROM sagabus.saga WHERE id = 'order-7' AND status = 'completed'"
            )
            assert await until(lambda: connection.fetchval(ended), what="the saga ends") == '{"open_amount":30}'
            await connection.close()


async def publish(kafka: str, topic: str, type: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    await producer.send_and_wait(topic, value, key=b"7", headers=[("ce_type", type.encode())])
    await producer.stop()

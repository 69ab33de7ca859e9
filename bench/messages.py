"""What the eight messages of an order saga cost, from being decided to the batch for Kafka: processor time, no I/O.

python -m bench.messages [--sagas N]
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from itertools import repeat

from sagabus.contracts.commands import Addresses, command_message
from sagabus.contracts.envelope import Message, source_of
from sagabus.contracts.lifecycle import LifecycleType, lifecycle_message
from sagabus.contracts.names import CommandKind, RunId, SagaId
from sagabus.messaging.bus.record_batch import RecordBatch
from sagabus.messaging.publishing import outbox

NOW = 1_800_000_000_000_000
BODY = json.dumps({"order_id": "ORD-10023", "items": [{"sku": "SKU-1", "quantity": 2, "price": "19.99"}] * 2}).encode()
EVENT = json.dumps({"saga": "order", "version": 1, "status": "running", "step": 1, "output": {"id": "RES-1"}}).encode()
STEPS = (("inventory", "inventory.reserve"), ("payment", "payment.charge"), ("shipping", "shipping.ship"))
REPEATS = 100


def messages(saga: Addresses, now: int) -> list[Message]:
    """Of the whole saga: its start, three steps, its end."""
    told, cause = LifecycleType.STARTED, "sagabus.requests:3:7"
    made: list[Message] = []
    for step, (service, activity) in enumerate(STEPS, 1):
        made.append(lifecycle_message(saga, told, EVENT, sequence=step, time=now, cause=cause))
        made.append(command_message(
            saga, service=service, activity=activity, step=step, kind=CommandKind.DO, attempt=1, issued=now, time=now,
            cause=cause, body=BODY, partition=saga.shard,
        ))  # fmt: skip
        told, cause = LifecycleType.STEP_COMPLETED, f"{saga.saga_id}:{saga.run}:{step}:1:reply"
    made.append(lifecycle_message(saga, told, EVENT, sequence=4, time=now, cause=cause))
    made.append(lifecycle_message(saga, LifecycleType.COMPLETED, EVENT, sequence=5, time=now, cause=cause))
    return made


def stored(given: list[Message]) -> None:
    outbox.encoded((3, position, message) for position, message in enumerate(given))


def batched(given: list[Message]) -> None:
    records: dict[tuple[str, int | None], list[bytes]] = {}
    for message in given:
        records.setdefault((message.topic, message.partition), []).append(message.record)
    for those in records.values():
        batch = RecordBatch(NOW // 1000)
        batch.extend(those, most=2**20, enough=2**20)
        batch._build()


def least(work: Callable[[int], None], sagas: int) -> float:
    """Microseconds of processor time a saga, the least of REPEATS."""
    found: list[float] = []
    for turn in range(REPEATS):
        before = time.process_time()
        work(turn)
        found.append(time.process_time() - before)
    return round(min(found) / sagas * 1e6, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sagas", type=int, default=200, help="of one turn (default 200)")
    count = parser.parse_args().sagas
    source, run = source_of("sagabus"), RunId("0123456789ab")
    sagas = [Addresses("sagabus", source, SagaId(f"ORD-{number}"), run, number % 12) for number in range(count)]
    given = [message for saga in sagas for message in messages(saga, NOW)]
    gc.freeze()
    made = least(lambda turn: [*map(messages, sagas, repeat(NOW + turn))].clear(), count)
    rows, batches = least(lambda _: stored(given), count), least(lambda _: batched(given), count)
    total = round(made + rows + batches, 1)
    print(json.dumps({"bench": "messages", "us_a_saga": total, "made": made, "rows": rows, "batches": batches}))


if __name__ == "__main__":
    main()

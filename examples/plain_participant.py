"""The service `shipping` without sagabus: docs/participants-in-any-language.md as a program.

KAFKA=localhost:9092 DATABASE=postgresql://me@localhost/shipping python plain_participant.py

It never deletes inbox rows, so no command is too old for it, and all of its work is in one database.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

NAMESPACE = "sagabus"
SERVICE = "shipping"
SERVED = ("Japan", "Germany")

NEEDED = ("ce_id", "ce_source", "ce_type", "ce_subject", "ce_attempt", "ce_replyto", "ce_replypartition")
READ = (*NEEDED, "ce_settles")

TABLES = """
    CREATE TABLE IF NOT EXISTS inbox (
        source text, id text, activity text, state text, attempt bigint, hash bytea, reply bytea,
        PRIMARY KEY (source, id));
    CREATE TABLE IF NOT EXISTS parcel (order_id text, tracking_number text)
"""

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
Headers = dict[str, str]
Answer = tuple[str, bytes, int]
"""Kind, value, attempt."""
Fault = tuple[str, str]
"""Reason code, sentence."""


class Refused(Exception):
    """A business rejection: code, message."""


async def ship_order(command: Any, connection: Connection) -> Any:
    country = command["address"]["country"]
    if country not in SERVED:
        raise Refused("address_not_served", f"no courier goes to {country}")
    tracking_number = f"TRACK-{command['order_id']}"
    await connection.execute("INSERT INTO parcel VALUES ($1, $2)", command["order_id"], tracking_number)
    return {"tracking_number": tracking_number, "status": "shipped"}


HANDLERS = {"shipping.ship_order": ship_order}


async def answer(connection: Connection, headers: Headers, value: bytes) -> Answer:
    """What the inbox table of the page says, in one transaction."""
    activity, attempt, digest = headers["ce_type"], int(headers["ce_attempt"]), hashlib.sha256(value).digest()
    is_settle = activity == "sagabus.settle"
    key = headers["ce_source"], headers["ce_settles"] if is_settle else headers["ce_id"]
    async with connection.transaction():
        await connection.execute("INSERT INTO inbox (source, id) VALUES ($1, $2) ON CONFLICT DO NOTHING", *key)
        row = await connection.fetchrow("SELECT * FROM inbox WHERE source = $1 AND id = $2 FOR UPDATE", *key)
        assert row is not None
        state = row["state"]
        if is_settle:
            if state == "completed":
                return "completed", row["reply"], attempt
            await store(connection, key, activity, "tombstone", attempt, None, None)
            return "never", b"null", attempt
        if state == "tombstone":
            return "refused", failure("sagabus.settled_as_never", "it was settled as one that never happens"), attempt
        if state is not None and (row["activity"], row["hash"]) != (activity, digest):
            return "failed", failure("sagabus.id_reused", "this id came with another activity or value"), attempt
        if state == "completed" or (state is not None and attempt <= row["attempt"]):
            return state, row["reply"], row["attempt"]
        if activity not in HANDLERS:
            if state is None:
                await connection.execute("DELETE FROM inbox WHERE source = $1 AND id = $2", *key)
            return "failed", failure("sagabus.no_handler", f"nobody handles {activity}"), attempt
        kind, reply = await outcome(connection, activity, value)
        await store(connection, key, activity, kind, attempt, digest, reply)
        return kind, reply, attempt


async def outcome(connection: Connection, activity: str, value: bytes) -> tuple[str, bytes]:
    """Kind and value. What a failed handler has written is rolled back; a database error is no answer."""
    try:
        async with connection.transaction():
            return "completed", json.dumps(await HANDLERS[activity](json.loads(value), connection)).encode()
    except Refused as refused:
        return "refused", failure(*refused.args)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        raise
    except Exception as error:
        return "failed", failure("sagabus.handler_error", f"{type(error).__name__}: {error}")


async def store(
    connection: Connection, key: tuple[str, str], activity: str, state: str, attempt: int,
    digest: bytes | None, reply: bytes | None,
) -> None:  # fmt: skip
    await connection.execute(
        "UPDATE inbox SET activity = $3, state = $4, attempt = $5, hash = $6, reply = $7 WHERE source = $1 AND id = $2",
        *key, activity, state, attempt, digest, reply,
    )  # fmt: skip


def failure(code: str, message: str) -> bytes:
    return json.dumps({"code": code, "message": message}).encode()


def reply_headers(headers: Headers, kind: str, attempt: int) -> list[tuple[str, bytes]]:
    given = {
        "ce_causationid": headers["ce_id"],
        "ce_type": f"sagabus.reply.{kind}",
        "ce_attempt": str(attempt),
        "ce_id": f"{headers['ce_id']}:{attempt}:reply",
        "ce_specversion": "1.0",
        "ce_source": f"{headers['ce_source']}/{SERVICE}",
        "ce_subject": headers["ce_subject"],
        "content-type": "application/json",
    }
    given |= {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
    return [(name, text.encode()) for name, text in given.items()]


async def serve(record: ConsumerRecord, pool: asyncpg.Pool, producer: AIOKafkaProducer) -> None:
    """Until it is answered. The offset is committed after that, so nothing is lost by a crash."""
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    fault = repeated(record.headers) or fault_of(headers)
    if fault:
        await producer.send_and_wait(
            f"{NAMESPACE}.dead-letters", record.value, record.key, headers=[*record.headers, *why(record, *fault)]
        )
        return
    while True:
        try:
            async with pool.acquire() as connection:
                kind, value, attempt = await answer(connection, headers, record.value or b"null")
            break
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            print(f"the database does not work, it is tried again: {error}")
            await asyncio.sleep(1)
    topic = headers["ce_replyto"]
    partition = int(headers["ce_replypartition"]) % len(await producer.partitions_for(topic))
    await producer.send_and_wait(topic, value, record.key, partition, headers=reply_headers(headers, kind, attempt))


def why(record: ConsumerRecord, reason: str, message: str) -> list[tuple[str, bytes]]:
    given = {"reason": reason, "message": message, "topic": record.topic, "partition": record.partition}
    given |= {"offset": record.offset, "timestamp": record.timestamp, "by": SERVICE}
    given["at"] = datetime.now(UTC).isoformat()
    return [(f"x-dlt-{name}", str(value).encode()) for name, value in given.items()]


def repeated(headers: Sequence[tuple[str, bytes]]) -> Fault | None:
    """A header that we read, and that says two things, says nothing."""
    last = dict(headers)
    names = sorted({name for name, value in headers if name in READ and last[name] != value})
    return ("headers.repeated", f"headers stand twice with different values: {', '.join(names)}") if names else None


def fault_of(headers: Headers) -> Fault | None:
    """Why this is no command for us."""
    settles = ("ce_settles",) if headers.get("ce_type") == "sagabus.settle" else ()
    if missing := [name for name in (*NEEDED, *settles) if not headers.get(name)]:
        return "headers.missing", f"headers are missing: {', '.join(missing)}"
    if not (headers["ce_attempt"].isdigit() and headers["ce_replypartition"].isdigit()):
        return "headers.invalid", "ce_attempt or ce_replypartition is no number"
    if not headers["ce_replyto"].endswith(f".replies.{SERVICE}"):
        return "command.reply_topic", f"ce_replyto is {headers['ce_replyto']}: {SERVICE} answers on its own topic alone"
    return None


async def main() -> None:
    kafka = os.environ["KAFKA"]
    group = {"group_id": SERVICE, "enable_auto_commit": False, "auto_offset_reset": "earliest"}
    async with asyncpg.create_pool(os.environ["DATABASE"]) as pool:
        await pool.execute(TABLES)
        producer = AIOKafkaProducer(bootstrap_servers=kafka, enable_idempotence=True)
        consumer = AIOKafkaConsumer(f"{SERVICE}.commands", bootstrap_servers=kafka, **group)
        async with producer, consumer:
            print(f"{SERVICE} runs", flush=True)
            async for record in consumer:
                await serve(record, pool, producer)
                await consumer.commit()


if __name__ == "__main__":
    asyncio.run(main())

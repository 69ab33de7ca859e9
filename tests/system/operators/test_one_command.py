"""Each kind of saga that cannot go on by itself is ended by one command, and undone in reverse (U8)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.conditions import until
from tests.support.kafka_broker import KafkaBroker
from tests.support.kafka_installation import KafkaInstallation
from tests.support.ports import free_port
from tests.system.deployment import Deployment
from tests.system.observer import Observer
from tests.system.operators.blocked_sagas import CHANGED_VARIABLE
from tests.system.operators.desk_sagas import called
from tests.system.operators.foreigner import foreigner
from tests.system.operators.people import People, people

INSTANCE: Final = "coordinator-a"
"""Static membership: after a kill its shards are its own again at once."""

TAKEN: Final = [(1, "take"), (2, "take")]
GIVEN_BACK: Final = [(2, "give_back"), (1, "give_back")]


@dataclass(frozen=True)
class Stand:
    """A saga that stands. definition: asked for by its start. concern: that it is flagged for. ledger: in the end."""

    definition: str
    concern: str
    ledger: Sequence[tuple[int, str]] = (*TAKEN, *GIVEN_BACK)
    is_codeless: bool = True


STANDS: Final = {
    "MISTYPED-1": Stand("mody", "blocked", ()),
    "DIVERGED-1": Stand("moody", "diverged"),
    "SPUN-1": Stand("spinning", "spun"),
    "FOREIGN-1": Stand("abroad", "step", (*TAKEN, (3, "bring_back"), *GIVEN_BACK), is_codeless=False),
}
"""By id."""

TELLS: Final = ("is being undone: ", "is cancelled\n")


@pytest.mark.ring("faults")
async def test_u8_each_saga_that_cannot_go_on_is_ended_by_one_command(
    kafka_installation: KafkaInstallation, database: str, tmp_path: Path
) -> None:
    url, observer = f"127.0.0.1:{free_port()}", Observer(database)
    with KafkaBroker(kafka_installation, tmp_path / "kafka") as broker:
        async with (
            Deployment(
                kafka=broker.address, database=database, folder=tmp_path / "services",
                sagas=("tests.system.operators.blocked_sagas",), services=("desk",),
                participants=("tests.system.operators.desk_service",),
                settings={"SAGABUS_HTTP": url, "SAGABUS_URL": f"http://{url}"},
            ) as deployment,
            people((), broker.address) as operators,
            foreigner(broker.address, observer),
        ):  # fmt: skip
            await deployment.all_participants()
            await stand_still(deployment, observer, operators)
            for id in STANDS:
                told = await deployment.ask("cancel", id, "--reason", "it stands", "--actor", "ann")
                assert (told.returncode, told.stderr) == (0, "")
                assert told.stdout.startswith(tuple(f"{id} {words}" for words in TELLS))
            await until(lambda: all_closed(observer), what="all are closed")
        found = {row["id"]: row for row in await observer.fetch("SELECT * FROM sagabus.saga")}
        ledger, history = await ledgers(observer), await observer.fetch("SELECT * FROM sagabus.history ORDER BY seq")
        await observer.stop()
    assert {id: (row["status"], row["attention"]) for id, row in found.items()} == dict.fromkeys(
        STANDS, ("cancelled", None)
    )
    assert ledger == {id: [*stand.ledger] for id, stand in STANDS.items()}
    cancels = [(row["id"], row["name"], row["payload"]) for row in history if row["kind"] == "cancel"]
    assert sorted(cancels) == sorted((id, "ann", b"it stands") for id in STANDS)
    codeless = {id for id, stand in STANDS.items() if stand.is_codeless}
    assert {row["id"] for row in history if row["kind"] == "codeless"} == codeless
    assert {id for id, row in found.items() if json.loads(row["error"]).get("codeless")} == codeless


async def stand_still(deployment: Deployment, observer: Observer, operators: People) -> None:
    """All are started, and come to stand: one when a coordinator with other code takes its place, one by an event."""
    first = await deployment.coordinator(instance=INSTANCE)
    for id, stand in STANDS.items():
        operators.publish(id, {"type": "start", "saga": stand.definition, "input": {"place": 0}}, id=f"start-{id}")
    operators.flush()
    await until(lambda: has_begun(observer), what="two steps of each are done, and told")
    first.kill()
    await deployment.coordinator("changed", instance=INSTANCE, settings={CHANGED_VARIABLE: "1"})
    operators.publish("SPUN-1", {"type": "event", "name": called.name, "data": {"by": "dan"}}, id="called")
    operators.flush()
    await until(lambda: all_flagged(observer), what="each is flagged for its own reason")


async def has_begun(observer: Observer) -> bool:
    told = await observer.value("SELECT count(*) FROM sagabus.history WHERE kind = 'step.completed'")
    return told == sum(len(TAKEN) for stand in STANDS.values() if stand.ledger)


async def all_flagged(observer: Observer) -> bool:
    rows = await observer.fetch("SELECT id, concerns FROM sagabus.saga")
    kinds = {row["id"]: [one["kind"] for one in json.loads(row["concerns"] or "[]")] for row in rows}
    assert kinds == {id: [stand.concern] for id, stand in STANDS.items()}
    return True


async def all_closed(observer: Observer) -> bool:
    return await observer.value("SELECT count(closed_at) FROM sagabus.saga") == len(STANDS)


async def ledgers(observer: Observer) -> dict[str, list[tuple[int, str]]]:
    """By saga."""
    found: dict[str, list[tuple[int, str]]] = {id: [] for id in STANDS}
    for row in await observer.fetch("SELECT saga_id, step, what FROM desk_ledger ORDER BY number"):
        found[row["saga_id"]].append((row["step"], row["what"]))
    return found

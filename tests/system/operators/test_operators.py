"""300 sagas of every shape, operators who ask for everything, coordinators that are killed: all tell one story (U8)."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.support.kafka_broker import KafkaBroker
from tests.support.kafka_installation import KafkaInstallation
from tests.support.ports import free_port
from tests.system.deployment import Deployment
from tests.system.observer import Observer
from tests.system.operators.desk_run import KILLS, DeskRun
from tests.system.operators.people import people
from tests.system.operators.verb_judge import APPLIED, REFUSED, judge_effects, judge_requests
from tests.system.operators.verb_plan import COORDINATORS, VERBS, Planner, shapes
from tests.system.service_processes import COORDINATOR, ServiceProcesses

SEED: Final = int(os.environ.get("SAGABUS_TEST_SEED", "20261130"))
"""Of another run: SAGABUS_TEST_SEED=7 python -m pytest -s tests/system/operators/test_operators.py"""

SAGAS: Final = 300
SHOWN: Final = 50
"""Violations, each in a line."""

PARTITIONS: Final = 4


@pytest.mark.ring("faults")
async def test_u8_every_verb_of_300_sagas_is_answered_as_history_has_it_though_owners_are_killed(
    kafka_installation: KafkaInstallation, database: str, tmp_path: Path
) -> None:
    print(f"SAGABUS_TEST_SEED={SEED}")
    planner, sagas = Planner(SEED), shapes(SAGAS)
    ports = [free_port() for _ in range(COORDINATORS)]
    with KafkaBroker(kafka_installation, tmp_path / "kafka") as broker:
        async with (
            Deployment(
                kafka=broker.address, database=database, folder=tmp_path / "services",
                sagas=("tests.system.operators.desk_sagas",), participants=("tests.system.operators.desk_service",),
                services=("desk",), settings={"SAGABUS_PARTITIONS": str(PARTITIONS)},
            ) as deployment,
            people([f"http://127.0.0.1:{port}" for port in ports], broker.address) as operators,
        ):  # fmt: skip
            observer = Observer(database)
            processes = ServiceProcesses(deployment, observer, coordinators=COORDINATORS, participants=1)
            for post, port in zip(processes.of(COORDINATOR), ports, strict=True):
                post.settings["SAGABUS_HTTP"] = f"127.0.0.1:{port}"
            await processes.start_all()
            run = DeskRun(sagas, processes, observer, operators, planner, SEED)
            await run.carry_out(planner.moves(sagas))
            standing = await run.rest()
            await run.close_all()
            await run.acknowledge_all()
            await run.rest()
            looked_up, left = await run.looked_up(), await run.left()
            await observer.stop()
            fell = [one.report() for one in deployment.children if not one.running and one.returncode not in (0, -9)]
    outcomes = Counter(
        (ask.verb, outcome.kind) for ask in operators.asked.values() if (outcome := left.outcome(ask)) is not None
    )
    answers = Counter((answer.status, answer.outcome) for told in operators.told.values() for answer in told)
    print(f"{outcomes}\n{answers}\n{Counter(saga.status for saga in left.sagas.values())}")
    print(f"killed {run.killed}; {operators.met_dead} calls met nobody; {len(standing)} sagas stood in the middle")

    violations = [*judge_requests(left, operators.asked, operators.told, looked_up)]
    violations += [words for saga in left.sagas.values() for words in judge_effects(saga)]
    violations += [f"{saga.id} stays flagged: {saga}" for saga in left.sagas.values() if saga.attention]
    print(*violations[:SHOWN], sep="\n")
    assert left.sagas.keys() == sagas.keys()
    assert violations == []
    assert fell == []
    assert len(run.killed) > KILLS
    assert operators.met_dead > 0
    assert all(outcomes[verb, kind] for verb in VERBS for kind in (APPLIED, REFUSED))
    assert all(answers[kind] for kind in ((200, "applied"), (202, "unknown"), (202, "kept"), (409, ""), (404, "")))

"""Two coordinators that were set up wrongly: each mistake is named where an operator looks, with its cure."""

from __future__ import annotations

import pytest

from tests.support.conditions import until
from tests.support.ports import free_port
from tests.system.ordinary.trial import INSTANCE, Trial

NAMED_SECONDS = 10.0
REJOINS = 20
"""Of both together until it is named, and after it: no hot loop."""

JOINED = ": generation "
"""Of a log's line about it."""


@pytest.mark.ring("faults")
async def test_two_coordinators_with_one_instance_are_named_with_the_cure(made: Trial) -> None:
    [first] = made.coordinators
    settings = {"SAGABUS_HTTP": f"127.0.0.1:{free_port()}"}
    twin = await made.deployment.coordinator("twin", instance=INSTANCE, settings=settings)

    def named() -> list[str]:
        said = (first.stderr + first.stdout + twin.stderr + twin.stdout).splitlines()
        return [line for line in said if "SAGABUS_INSTANCE" in line and INSTANCE in line]

    try:
        lines = await until(named, within=NAMED_SECONDS, what="a log names the instance")
        print(*lines[:4], sep="\n")
    finally:
        print(f"{len(first.stderr.splitlines())} and {len(twin.stderr.splitlines())} lines in all")
        print(first.stderr[-1500:], twin.stderr[-1500:], sep="\n-----\n")
    made.start_saga("ONE-1", "one")
    await made.ends("ONE-1", within=60)
    said = first.stderr + twin.stderr
    assert len(said.splitlines()) < 200
    assert said.count(JOINED) <= REJOINS


@pytest.mark.ring("faults")
async def test_a_coordinator_without_a_module_that_another_has_is_named(made: Trial) -> None:
    settings = {"SAGABUS_HTTP": f"127.0.0.1:{free_port()}"}
    lacking = await made.deployment.coordinator(
        "lacking", instance="coordinator-b", settings=settings, sagas=("sagabus.shop.order_processing",)
    )
    for number in range(40):
        made.start_saga(f"ONE-{number}", "one")

    async def one_is_flagged() -> str | None:
        rows = await made.observer.fetch("SELECT attention FROM sagabus.saga WHERE attention IS NOT NULL LIMIT 1")
        return rows[0]["attention"] if rows else None

    attention = await until(one_is_flagged, what="a saga has no definition there")
    print(attention)
    doctor = await made.deployment.ask("doctor", *made.deployment.sagas, *made.deployment.participants)
    print(doctor.stdout, doctor.stderr, [line for line in lacking.stderr.splitlines() if "WARN" in line], sep="\n")
    assert f"the definition 'one' is missing in this coordinator (process {lacking.pid} on " in lacking.stderr
    assert "(coordinator-b) lacks " in doctor.stdout
    assert "one version 1" in doctor.stdout

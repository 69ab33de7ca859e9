"""`dev` without a service that a saga calls: its commands would wait in silence, so it is said once, with the cure."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagabus.commands import modules
from sagabus.commands.dev.absent import Absent
from sagabus.commands.dev.whereabouts import participant_of
from sagabus.commands.main import main
from sagabus.commands.subcommand import Exit
from tests.support.conditions import blocking_until
from tests.support.dev_host import DevHost
from tests.support.folders import data_folder

SHOP = "sagabus.shop.order_processing"

CONTRACTS = """
from pydantic import BaseModel
from sagabus.contracts import Service

class Job(BaseModel):
    size: int

near, far = Service("own-near"), Service("own-far")
do_near, do_far = near.activity("do", Job), far.activity("do", Job)
BY_NAME = {"far": do_far}
"""

SAGA = """
import own_contracts as c
from own_contracts import Job
from sagabus.coordinator import SagaContext, saga

@saga("own")
async def own(ctx: SagaContext, job: Job) -> None:
    await ctx.call(c.BY_NAME["far"].of(job))
    await do(ctx, job)

async def do(ctx: SagaContext, job: Job) -> None:
    await ctx.call(c.do_near.of(job))
"""

PARTICIPANT = """
import own_contracts
from sagabus.participants import Participant
service = Participant(own_contracts.{service})
"""


def write(folder: Path) -> None:
    (folder / "own_contracts.py").write_text(CONTRACTS)
    (folder / "own_saga.py").write_text(SAGA)
    for service in ("near", "far"):
        (folder / f"own_{service}_service.py").write_text(PARTICIPANT.format(service=service))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current directory with a saga that calls two services, one of them by a name that no code has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    write(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def absent(*names: str, present: tuple[str, ...] = ()) -> Absent:
    return Absent(modules.definitions(names), present, names)


def test_services_that_the_code_names_and_nobody_serves_are_told_at_the_start() -> None:
    said = absent(SHOP, present=("inventory",)).at_start()
    assert [line.partition(", which nobody serves here")[0] for line in said] == [
        "order_processing calls payment", "order_processing calls shipping",
    ]  # fmt: skip
    assert "its commands wait in the topic payment.commands. Add sagabus.shop.payment to the command line" in said[0]


def test_where_all_are_served_nothing_is_said() -> None:
    assert absent(SHOP, present=("inventory", "payment", "shipping")).at_start() == []


def test_a_function_of_the_same_module_and_a_module_of_contracts_are_followed(here: Path) -> None:
    (said,) = absent("own_saga").at_start()
    assert said.startswith("own calls own-near, ")
    assert "Add own_near_service to the command line" in said


def test_a_service_that_no_code_names_is_told_once_with_its_first_command(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = absent("own_saga", present=("own-near",))
    assert one.at_start() == []
    for topic in ("own-far.commands", "own-near.commands", "sagabus.events", "own-far.commands"):
        one.topic_appears(topic)
    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said.startswith("a saga calls own-far, which nobody serves here")
    assert "Add own_far_service to the command line" in said


def test_a_participant_that_is_not_found_is_not_named(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    (here / "own_far_service.py").write_text("this is no Python, and mentions Participant(")
    assert participant_of("own-far", ["own_saga"]) is None
    one = absent("own_saga", present=("own-near",))
    one.topic_appears("own-far.commands")
    assert "Add the module with Participant(own-far) to the command line" in caplog.text


def test_dev_says_it_and_the_doctor_has_a_cure_that_helps_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with data_folder() as folder:
        write(folder)
        with DevHost(folder, "own_saga") as dev:
            warned = [line for line in dev.process.stdout.splitlines() if line.startswith("warning: ")]
            assert [line for line in warned if "own calls own-near" in line] == warned
            assert dev.process.stdout.splitlines()[-1].startswith("ready at ")
            monkeypatch.chdir(folder)
            monkeypatch.setattr(sys, "path", [*sys.path])
            monkeypatch.setenv("SAGABUS_URL", dev.url)
            assert main(["start", "own", "--id", "O-1", "--input", '{"size": 1}']) == Exit.DONE
            blocking_until(lambda: "a saga calls own-far" in dev.process.stderr, what="the first command is told of")
            capsys.readouterr()
            assert main(["doctor", "own_contracts", "--json"]) == Exit.FOUND
            found = json.loads(capsys.readouterr().out)["findings"]
            cures = {one["code"]: one["cure"] for one in found}
            assert "sagabus topics" not in cures["topics.missing"]
            assert "add the modules of their participants to the command line" in cures["topics.missing"]

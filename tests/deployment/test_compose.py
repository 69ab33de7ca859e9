"""docker-compose.yml: what it says holds, and what it starts works. There is no Docker here, and no image is built."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

import pytest
from confluent_kafka import Producer

from sagabus.messaging.api_access import PREFIX
from sagabus.messaging.settings import Settings
from tests.deployment.compose import Service, seconds, services, waves, whole
from tests.deployment.machine import ComposedBroker, Machine, composed_database
from tests.support.conditions import until
from tests.support.kafka_installation import KafkaInstallation
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.processes import ROOT, Child
from tests.system.orders import Fate, Order

SERVICES = services()
OURS = [one for one in SERVICES.values() if one.ours]
RUNNING = [one for one in OURS if not one.job]
DOCKERFILE = (ROOT / "Dockerfile").read_text()

each = pytest.mark.parametrize("service", SERVICES.values(), ids=lambda one: one.name)
each_of_ours = pytest.mark.parametrize("service", OURS, ids=lambda one: one.name)


def test_it_has_what_a_deployment_is_made_of() -> None:
    jobs, participants = {"schema", "topics"}, {"inventory", "payment", "shipping"}
    assert SERVICES.keys() == {"kafka", "postgres", "coordinator"} | jobs | participants
    assert {one.name for one in OURS if one.job} == jobs


@each
def test_every_image_is_pinned(service: Service) -> None:
    assert re.fullmatch(r"[a-z/]+:\d+\.\d+[a-z0-9.-]*", service.spec["image"])


def test_images_of_the_dockerfile_are_pinned() -> None:
    images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(images) == 2
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", image) for image in images)


def test_the_broker_is_the_one_of_the_tests() -> None:
    pom = (ROOT / "tests" / "support" / "kafka" / "pom.xml").read_text()
    assert SERVICES["kafka"].spec["image"].rpartition(":")[2] in re.findall(r"<version>(.+)</version>", pom)


@each
def test_nobody_is_root(service: Service) -> None:
    assert service.spec["user"].partition(":")[0] not in ("root", "0", "")


def test_the_image_is_no_root_and_has_no_compiler() -> None:
    final = DOCKERFILE.rpartition("FROM ")[2]
    assert re.findall(r"^USER (.*)", final, re.MULTILINE) == ["10001:10001"] == [*{one.spec["user"] for one in OURS}]
    assert "slim" in final.partition("\n")[0]
    assert not re.search(r"apt|gcc|build-essential|^COPY", final, re.MULTILINE)


def test_the_image_asks_a_coordinator_whether_it_is_ready() -> None:
    found = re.search(r"^HEALTHCHECK .*CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found is not None
    assert json.loads(found[1]) == SERVICES["coordinator"].health


@each
def test_ports_are_open_to_this_machine_alone(service: Service) -> None:
    assert all(port.startswith("127.0.0.1:") for port in service.spec.get("ports", ()))


@each_of_ours
def test_every_variable_is_a_setting(service: Service) -> None:
    fields = {PREFIX + name.upper() for name in Settings.model_fields}
    assert service.settings
    assert service.settings.keys() <= fields


@each
def test_what_ends_is_started_again_and_has_time_to_end(service: Service) -> None:
    assert service.spec["restart"] == ("on-failure:5" if service.job else "unless-stopped")
    assert service.grace >= 20


@each
def test_a_service_is_waited_for_by_what_it_can_tell(service: Service) -> None:
    for name, condition in service.needs.items():
        needed = SERVICES[name]
        assert condition == ("service_completed_successfully" if needed.job else "service_healthy")
    if service.job:
        assert service.spec["healthcheck"] == {"disable": True}
    else:
        assert service.health
        assert seconds(service.spec["healthcheck"]["interval"]) >= 1


def test_data_is_on_volumes_with_names() -> None:
    used = {volume.partition(":")[0] for one in SERVICES.values() for volume in one.spec.get("volumes", ())}
    assert used == whole()["volumes"].keys() == {"kafka", "postgres"}


def test_what_the_wheel_is_made_of_is_sent_to_the_build() -> None:
    left_out = (ROOT / ".dockerignore").read_text().split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    needed = ["pyproject.toml", project["project"]["readme"], *project["project"]["license-files"], *wheel]
    assert all((ROOT / path).exists() for path in needed)
    for path in needed:
        assert not [pattern for pattern in left_out if fnmatch(path, pattern) or path.startswith(f"{pattern}/")]
    assert {".git", ".venv", ".env"} <= {*left_out}


@pytest.mark.ring("deployment")
async def test_what_it_starts_runs_sagas_and_ends_in_order(
    kafka_installation: KafkaInstallation, postgres: PostgresServer, tmp_path: Path
) -> None:
    http = f"127.0.0.1:{free_port()}"
    with (
        ComposedBroker(kafka_installation, tmp_path / "kafka", SERVICES["kafka"]) as broker,
        composed_database(postgres, SERVICES["postgres"]),
    ):
        places = {
            "kafka:9092": broker.address, "@postgres:5432": f"@127.0.0.1:{postgres.port}", "0.0.0.0:8080": http,
        }  # fmt: skip
        async with Machine(tmp_path, places) as machine:
            await bring_up(machine)
            token = SERVICES["coordinator"].settings["SAGABUS_TOKEN"]
            people = {"SAGABUS_URL": f"http://{http}", "SAGABUS_TOKEN": token}
            await start_by_command(Order(1, Fate.COMPLETED), people, tmp_path)
            await start_by_record(Order(2, Fate.NOT_SERVED), people, tmp_path, broker.outside)
            await take_down(machine)


async def bring_up(machine: Machine) -> None:
    """In the order of the conditions, as Compose does it."""
    for wave in waves(OURS):
        children = [machine.start(service) for service in wave]
        jobs = [child for child, service in zip(children, wave, strict=True) if service.job]
        assert [await job.ended() for job in jobs] == [0] * len(jobs), [job.report() for job in jobs]
    await asyncio.gather(*map(machine.healthy, RUNNING))


async def start_by_command(order: Order, people: Mapping[str, str], folder: Path) -> None:
    input = json.dumps(order.request["input"])
    words = ("start", "order_processing", "--id", order.id, "--input", input, "--wait", "--json")
    child = Child.python("sagabus.commands.main", *words, folder=folder, name="start", settings=people)
    assert await child.ended() == 0, child.report()
    assert json.loads(child.stdout)["result"]["confirmation_number"] == f"TRACK-{order.id}"


async def start_by_record(order: Order, people: Mapping[str, str], folder: Path, kafka: str) -> None:
    """As anybody on this machine: bare JSON with the saga's id as key, through the port that is open to it."""
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce("sagabus.requests", key=order.id, value=json.dumps(order.request))
    assert producer.flush(30) == 0

    async def undone() -> bool:
        words = ("show", order.id, "--json")
        child = Child.python("sagabus.commands.main", *words, folder=folder / order.id, name="show", settings=people)
        await child.ended()
        last = child.stdout.splitlines()[-1]
        return bool(json.loads(last)["status"] == "compensated")

    await until(undone, every=0.5)


async def take_down(machine: Machine) -> None:
    """SIGTERM: each ends by itself within its time, and its health check says so."""
    for child in await asyncio.gather(*map(machine.end, RUNNING)):
        assert child.returncode == 0, child.report()
        assert "Traceback" not in child.stderr
    assert await asyncio.gather(*map(machine.health, RUNNING)) == [3] * len(RUNNING)

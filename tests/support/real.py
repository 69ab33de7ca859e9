"""Fixtures for the real parts: a Kafka broker and a PostgreSQL server, one of each for the whole test run.

Where a part is not on this machine, its tests are left out, and the summary says loudly what is missing and how to get
it. With SAGABUS_TEST_REQUIRE_REAL=1 they fail instead. Tests share the servers and keep apart by names: take
`namespace`.
"""

from __future__ import annotations

import os
import re
import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.kafka_broker import KafkaBroker, make_class_archive
from tests.support.kafka_installation import KafkaInstallation, NotInstalled, find_kafka
from tests.support.postgres import PostgresServer

REAL = {"kafka_installation", "kafka_broker", "kafka", "postgres", "database"}
"""The fixtures that make a test `real`."""

LONGEST = (
    "system/test_faults", "simulation/", "system/test_growth", "hostile/test_fuzz", "system/", "test_demo", "docs/",
    "test_subscription", "test_watchdog", "test_host",
)  # fmt: skip
"""Files by what they take, as parts of their paths."""

LEFT_OUT = "Skipped: no "
"""How the reason begins where a part is missing."""


@pytest.fixture(scope="session")
def kafka_installation(tmp_path_factory: pytest.TempPathFactory) -> KafkaInstallation:
    """For tests that break a broker of their own: `KafkaBroker(kafka_installation, tmp_path)`."""
    try:
        installation = find_kafka()
    except NotInstalled as reason:
        _leave_out("Kafka", str(reason))
    if not installation.class_archive.exists():
        make_class_archive(installation, tmp_path_factory.mktemp("kafka-training"))
    return installation


@pytest.fixture(scope="session")
def kafka_broker(
    kafka_installation: KafkaInstallation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KafkaBroker]:
    """The broker that all tests share. Who stops or wipes one starts another."""
    with KafkaBroker(kafka_installation, tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def kafka(kafka_broker: KafkaBroker) -> str:
    """The address of the shared broker."""
    if not kafka_broker.process.running:
        pytest.fail(f"the shared Kafka broker has died: {kafka_broker.report()}")
    return kafka_broker.address


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server that all tests share."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a fresh database of this test's own: postgresql://…"""
    with postgres.database() as url:
        yield url


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """A name of this test's own, for topics, groups and schemas."""
    words = re.sub(r"[^a-z0-9]+", "_", request.node.name.lower()).removeprefix("test_").strip("_")
    return f"{words[:20].rstrip('_')}_{secrets.token_hex(3)}"


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """Where child processes of a test write their output."""
    folder = tmp_path / "processes"
    folder.mkdir()
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the mark `real` on every test that takes a real part, so that `-m "not real"` is the quick run.

    What takes minutes goes first: of two halves that run at once none is to wait for the other at the end.
    """
    items.sort(key=lambda item: min((n for n, name in enumerate(LONGEST) if name in item.nodeid), default=len(LONGEST)))
    for item in items:
        if REAL.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.real)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The last word: what was left out, how many tests, and the cure."""
    skipped = [str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ())]
    missing = Counter(reason.removeprefix("Skipped: ") for reason in skipped if reason.startswith(LEFT_OUT))
    if missing:
        terminalreporter.section(f"{missing.total()} tests were left out", sep="!", red=True, bold=True)
    for reason, tests in sorted(missing.items()):
        terminalreporter.write_line(f"{tests} tests: {reason}", red=True)


def _leave_out(part: str, reason: str) -> NoReturn:
    if os.environ.get("SAGABUS_TEST_REQUIRE_REAL") == "1":
        pytest.fail(f"SAGABUS_TEST_REQUIRE_REAL is set, and there is no {part}: {reason}")
    pytest.skip(f"no {part}: {reason}")

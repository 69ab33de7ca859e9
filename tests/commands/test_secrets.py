"""No part of a secret is in what a command says, whatever characters it has, when its servers are away or refuse it."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from sagabus.commands.doctor import bus, tables
from sagabus.commands.main import main
from sagabus.commands.services.running import run_coordinator
from sagabus.commands.setup import tables as schemas
from sagabus.commands.setup import topics
from sagabus.commands.subcommand import Exit
from sagabus.contracts.errors import SagabusError
from tests.support.conditions import until
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer

ODD = "@:/?#[]!$&'()*+,;=%\\\"`{}|^~<> -._"
LETTERS = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKMNPQRSTUVWXYZ23456789"
PART = 4
"""Characters: fewer are in any text by chance."""

SECRETS = [
    "".join(chance.choice(chance.choice((ODD, LETTERS, LETTERS))) for _ in range(16))
    for chance in map(random.Random, range(3))
] + ["pässwört-漢字-ünd", "Lq1Qx9\nZk2Qx8", "tab\tQ7xY\x7fz", "Q7xY9@Zk3:W5/q8?v#u", "%41%zzQ7xY%", "Q\udcffxY9Zk3W"]

COMMANDS = [
    ["migrate"],
    ["topics", "sagabus.shop.contracts"],
    ["doctor", "--json"],
    ["start", "order_processing", "--id", "ORD-1", "--input", "{}"],
    ["list"],
]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("SAGABUS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    for module in (schemas, topics, bus, tables):
        monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)


@pytest.fixture(scope="module")
def refusing_url() -> Iterator[str]:
    """An HTTP server that takes no token."""

    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        serving.join()


Environment = Callable[[str, str], None]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Every secret that there is, as this one. in_url: the database's password as it stands in its address."""

    def secrets_are(in_url: str, secret: str) -> None:
        nowhere = f"127.0.0.1:{free_port()}"
        values = {
            "KAFKA": nowhere, "KAFKA_SECURITY": "sasl_tls", "KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_USERNAME": "me",
            "KAFKA_PASSWORD": secret, "TOKEN": secret, "URL": f"http://{nowhere}",
            "DATABASE": f"postgresql://me:{in_url}@{nowhere}/shop", "HTTP": f"127.0.0.1:{free_port()}",
        }  # fmt: skip
        for name, value in values.items():
            monkeypatch.setenv(f"SAGABUS_{name}", value)

    return secrets_are


def parts(secret: str) -> set[str]:
    return {secret[place : place + PART] for place in range(len(secret) - PART + 1)}


def assert_none_of(secret: str, said: str) -> None:
    forms = [secret, quote(secret, safe="", errors="surrogateescape"), repr(secret)[1:-1]]
    found = {part for form in forms for part in parts(form) if part in said}
    assert not found, f"{found} in: {said}"


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("encoded", [True, False])
def test_c6_no_command_says_a_part_of_a_secret_when_servers_are_away(
    secret: str, encoded: bool, environment: Environment, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also not of a password whose odd characters stand in the URL as they are."""
    in_url = quote(secret, safe="", errors="surrogateescape") if encoded else secret
    environment(in_url, secret)
    for command in COMMANDS:
        assert main(command) != Exit.DONE
        said = "".join(capfd.readouterr())
        assert said
        assert "Traceback" not in said, said
        assert_none_of(secret, said)


@pytest.mark.parametrize("secret", SECRETS[2::2])
def test_c6_no_command_says_a_part_of_a_secret_that_is_refused(
    secret: str,
    environment: Environment,
    refusing_url: str,
    postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    in_url = quote(secret, safe="", errors="surrogateescape")
    environment(in_url, secret)
    monkeypatch.setenv("SAGABUS_DATABASE", f"postgresql://postgres:{in_url}@127.0.0.1:{postgres.port}/postgres")
    monkeypatch.setenv("SAGABUS_URL", refusing_url)
    for command in COMMANDS:
        assert main(command) != Exit.DONE
        said = "".join(capfd.readouterr())
        assert "Traceback" not in said, said
        assert_none_of(secret, said)


@pytest.mark.parametrize("secret", SECRETS[2::2])
async def test_c6_a_coordinator_says_no_part_of_a_secret_while_it_waits_for_its_servers(
    secret: str,
    environment: Environment,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    environment(quote(secret, safe="", errors="surrogateescape"), secret)
    options = Namespace(modules=["sagabus.shop.order_processing"], health_file=None, log_level=None)
    coordinator = asyncio.create_task(run_coordinator(options))
    await until(lambda: coordinator.done() or "retrying" in caplog.text, what="the coordinator says that it waits")
    coordinator.cancel()
    (end,) = await asyncio.gather(coordinator, return_exceptions=True)
    assert isinstance(end, asyncio.CancelledError | SagabusError), end
    assert_none_of(secret, caplog.text + str(end) + "".join(capfd.readouterr()))

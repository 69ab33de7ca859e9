"""Whatever is wrong in the environment is one message with every fault, exit code 2, and nothing is connected to."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagabus.commands.main import SUBCOMMANDS, main
from sagabus.commands.subcommand import Exit
from tests.commands.test_main import _minimal

READ_SETTINGS = [name for name in SUBCOMMANDS if name not in ("init", "completion", "check")]
"""`check` reads them for --database alone, as `diff` does always."""

WRONG = {
    "SAGABUS_LOG": "loud",
    "SAGABUS_LOG_LEVEL": "chatty",
    "SAGABUS_PARTITIONS": "many",
    "SAGABUS_NAMESPACE": "sagabus_inventory",
    "SAGABUS_KAFKA_CERT_FILE": "/nowhere/cert.pem",
    "SAGABUS_RETENTION_INBOX": "14",
}


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[socket.socket]:
    """All servers are said to be here; who connects is seen."""
    for name in [name for name in os.environ if name.startswith("SAGABUS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        monkeypatch.setenv("SAGABUS_KAFKA", address)
        monkeypatch.setenv("SAGABUS_URL", f"http://{address}")
        monkeypatch.setenv("SAGABUS_DATABASE", f"postgresql://a:secret@{address}/shop")
        yield listening


@pytest.mark.parametrize("command", READ_SETTINGS)
def test_all_faults_in_one_message_and_no_connection(
    command: str,
    listener: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    for name, value in WRONG.items():
        monkeypatch.setenv(name, value)
    assert main(_minimal(command)) == Exit.USAGE
    said = capsys.readouterr().err
    assert said.count("wrong or missing settings") == 1
    assert [name for name in WRONG if f"  {name}" not in said] == []
    assert "secret" not in said
    assert "Traceback" not in said
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert list(tmp_path.iterdir()) == []


def test_an_open_api_is_a_fault_among_the_others(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAGABUS_HTTP", "0.0.0.0:8080")
    monkeypatch.setenv("SAGABUS_LOG", "loud")
    for command in ("coordinator", "dev"):
        assert main([command, "sagabus.shop.order_processing"]) == Exit.USAGE
        said = capsys.readouterr().err
        assert "SAGABUS_LOG=loud" in said
        assert "SAGABUS_HTTP=0.0.0.0:8080: other machines reach this address; set SAGABUS_TOKEN" in said
    assert main(["topics", "sagabus.shop.contracts"]) == Exit.USAGE
    assert "SAGABUS_TOKEN" not in capsys.readouterr().err  # it does not listen

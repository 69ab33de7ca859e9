"""`sagabus health`: ready, not ready with the reason, or nobody there."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from sagabus.commands.health import STALE_SECONDS, told
from sagabus.commands.main import main
from sagabus.commands.subcommand import Exit, Failed
from tests.support.conditions import until
from tests.support.ports import free_port


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SAGABUS_")]:
        monkeypatch.delenv(name)


async def test_the_file_is_kept_while_the_service_runs(tmp_path: Path) -> None:
    file, reason = tmp_path / "health", ["it waits"]
    async with told(file, lambda: reason[0]):
        assert file.read_text() == "it waits"
        reason[0] = ""
        await until(lambda: file.read_text() == "")
    assert [*tmp_path.iterdir()] == []
    async with told(None, lambda: ""):
        assert [*tmp_path.iterdir()] == []


async def test_a_file_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="--health-file"):
        async with told(tmp_path / "nowhere" / "health", lambda: ""):
            raise AssertionError


def test_ready_or_not_by_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "health"
    file.write_text("")
    assert main(["health", str(file)]) == Exit.DONE
    assert capsys.readouterr().out == "ready\n"
    file.write_text("it waits for Kafka")
    assert main(["health", str(file), "--json"]) == Exit.FOUND
    assert json.loads(capsys.readouterr().out) == {"ready": False, "reason": "it waits for Kafka"}


def test_a_file_that_is_old_or_gone_is_of_a_service_that_hangs_or_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "health"
    file.write_text("")
    old = time.time() - STALE_SECONDS - 5
    os.utime(file, (old, old))
    assert main(["health", str(file)]) == Exit.UNREACHABLE
    assert "hangs, or was killed" in capsys.readouterr().err
    file.unlink()
    assert main(["health", str(file)]) == Exit.UNREACHABLE
    assert f"without --health-file {file}" in capsys.readouterr().err


def test_a_coordinator_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"0.0.0.0:{free_port()}"
    monkeypatch.setenv("SAGABUS_HTTP", address)
    assert main(["health"]) == Exit.UNREACHABLE
    assert f"http://127.0.0.1:{address.rpartition(':')[2]} is unreachable" in capsys.readouterr().err
    monkeypatch.setenv("SAGABUS_HTTP", "off")
    assert main(["health"]) == Exit.USAGE
    assert "--health-file" in capsys.readouterr().err

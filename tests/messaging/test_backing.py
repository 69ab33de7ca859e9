"""Where things are, for a process that was given settings: named ones as they are, embedded ones through the host."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from sagabus.messaging.embedded.run_file import Run, write_run
from sagabus.messaging.service.backing import find_backing, find_here, folder_of, url_of
from sagabus.messaging.settings import Settings, SettingsError

URL = "postgresql://postgres@/sagabus?host=/tmp/socket"
REAL = "postgresql://me@localhost/mine"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SAGABUS_")]:
        monkeypatch.delenv(name)


def host(folder: Path, http: str | None = None) -> Run:
    run = Run.of_this_process(kafka="127.0.0.1:1", bus="a bus", database=URL, http=http)
    write_run(folder, run)
    return run


def test_what_is_named_is_taken_as_it_is() -> None:
    settings = Settings(kafka="one:9092", database=REAL, url="http://there:8080")
    backing = find_backing(settings)
    assert (backing.settings, backing.run, backing.gone) == (settings, None, False)
    assert backing.url == "http://there:8080"
    assert backing.kafka.address == "one:9092"
    assert not backing.kafka.embedded


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        (Settings(kafka="embedded", database=REAL), "SAGABUS_KAFKA=embedded"),
        (Settings(kafka="one:9092", database="embedded:data"), "SAGABUS_DATABASE=embedded:data"),
    ],
)
def test_embedded_without_a_host_names_setting_and_cure(settings: Settings, setting: str) -> None:
    with pytest.raises(SettingsError, match=f"{setting}: no host runs here .* start `sagabus dev`"):
        find_backing(settings)


async def test_the_host_in_the_folder_of_the_database_is_found(tmp_path: Path) -> None:
    run = host(tmp_path / "data", http="http://127.0.0.1:8080")
    backing = find_backing(Settings(kafka="embedded", database="embedded:data"))
    assert backing.run == run
    assert backing.settings.database == URL
    assert backing.kafka.address == run.kafka
    assert await backing.kafka.cluster_id() == run.bus
    assert backing.url == "http://127.0.0.1:8080"


def test_a_database_of_ones_own_beside_the_embedded_bus(tmp_path: Path) -> None:
    host(tmp_path / ".sagabus")
    assert find_backing(Settings(kafka="embedded", database=REAL)).settings.database == REAL


def test_the_folder_is_the_databases_or_the_usual_one() -> None:
    assert folder_of(Settings()) == Path(".sagabus")
    assert folder_of(Settings(database="embedded:~/x")) == Path("~/x").expanduser()


def test_the_address_of_the_api_is_the_settings_before_the_hosts(tmp_path: Path) -> None:
    assert url_of(Settings()) == ""
    host(tmp_path / ".sagabus", http="http://127.0.0.1:8080")
    assert url_of(Settings()) == "http://127.0.0.1:8080"
    assert url_of(Settings(url="http://there:1")) == "http://there:1"


def test_a_host_that_has_ended_is_noticed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = psutil.Process(process.pid).create_time()
        run = replace(host(tmp_path / ".sagabus"), host_pid=process.pid, host_started=started)
        write_run(tmp_path / ".sagabus", run)
        backing = find_backing(Settings(kafka="embedded", database=REAL))
        assert not backing.gone
        process.kill()
        process.wait()
        assert backing.gone


@pytest.mark.parametrize("named", [{}, {"KAFKA": "embedded"}, {"DATABASE": "embedded:.sagabus"}])
def test_what_is_not_named_is_the_hosts_unless_a_server_of_ones_own_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: dict[str, str]
) -> None:
    for name, value in named.items():
        monkeypatch.setenv(f"SAGABUS_{name}", value)
    if named:
        with pytest.raises(SettingsError, match="SAGABUS_"):
            find_here(require=("kafka", "database"))
    run = host(tmp_path / ".sagabus")
    found = find_here(require=("kafka", "database"))
    assert (found.run, found.settings.database, found.kafka.address) == (run, URL, run.kafka)
    assert found.folder == tmp_path / ".sagabus"
    monkeypatch.setenv("SAGABUS_KAFKA", "one:9092")
    monkeypatch.setenv("SAGABUS_DATABASE", REAL)
    assert find_here(require=()).settings.database == REAL

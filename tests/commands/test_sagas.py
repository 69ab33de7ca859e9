"""start, list, show and event against `sagabus dev`, found by its run.json, with their exit codes."""

from __future__ import annotations

import asyncio
import getpass
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sagabus.client.coordinator_api import CoordinatorApi
from sagabus.commands import sagas
from sagabus.commands.main import main
from sagabus.commands.sagas import given
from sagabus.commands.subcommand import Exit, Failed
from sagabus.contracts.envelope import Message
from sagabus.contracts.names import CommandKind, command_id
from sagabus.coordinator.core.saga import recorded
from sagabus.messaging.service.backing import find_backing
from sagabus.messaging.settings import load_settings
from tests.support.conditions import blocking_until
from tests.support.dev_host import DevHost
from tests.support.folders import data_folder
from tests.support.ports import free_port
from tests.support.processes import Child, clean

ORDER = {
    "order_id": "ORD-1",
    "customer_email": "customer@example.com",
    "items": [{"product_id": "PROD-1", "quantity": 2, "unit_price": "29.99"}],
    "shipping_address": {"street": "1-2-3", "city": "Shibuya", "postal_code": "150-0001", "country": "Japan"},
}
EXPENSE = {"expense_id": "EXP-1", "approver": "ann", "manager": "max"}


@pytest.fixture(scope="module")
def host() -> Iterator[DevHost]:
    with data_folder() as folder, DevHost(folder) as host:
        yield host


@pytest.fixture
def in_folder(host: DevHost, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the host, and no settings."""
    monkeypatch.chdir(host.folder)
    return host.folder


def order(order_id: str, **changes: Any) -> str:
    address = {**ORDER["shipping_address"], **changes}  # type: ignore[dict-item]
    return json.dumps({**ORDER, "order_id": order_id, "shipping_address": address})


def expense(expense_id: str) -> str:
    return json.dumps({**EXPENSE, "expense_id": expense_id})


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """What a command says with --json."""
    assert main([*words, "--json"]) == Exit.DONE
    return json.loads(capsys.readouterr().out)


def running(capsys: pytest.CaptureFixture[str], id: str) -> None:
    """Wait until it has asked for its decision."""

    def asked() -> bool:
        if main(["show", id, "--json"]) != Exit.DONE:
            capsys.readouterr()
            return False
        return [step["status"] for step in json.loads(capsys.readouterr().out)["steps"]] == ["completed"]

    blocking_until(asked)


def test_a_saga_from_a_file_to_its_result(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_folder / "order.json").write_text(order("ORD-100"))
    start = ["start", "order_processing", "--id", "ORD-100", "--input", "order.json"]
    assert main([*start, "--wait"]) == Exit.DONE
    said = capsys.readouterr().out
    assert said.startswith("ORD-100 is completed: ")
    assert "TRACK-ORD-100" in said
    assert main([*start, "--wait"]) == Exit.DONE  # an equal start is the same saga
    assert capsys.readouterr().out == said
    steps = answer(capsys, "show", "ORD-100")["steps"]
    assert [(step["activity"], step["attempts"]) for step in steps] == [
        ("inventory.reserve_inventory", 1), ("payment.process_payment", 1), ("shipping.ship_order", 1),
    ]  # fmt: skip


@pytest.mark.usefixtures("in_folder")
def test_one_that_is_undone_ends_with_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.TextIOWrapper(io.BytesIO(order("ORD-101", country="Atlantis").encode()))
    monkeypatch.setattr("sys.stdin", written)
    words = ["start", "order_processing", "--id", "ORD-101", "--input", "-", "--wait"]
    assert main(words) == Exit.ENDED_OTHERWISE
    assert capsys.readouterr().out == "ORD-101 is compensated: address_not_served: no courier goes to Atlantis\n"
    assert main(["show", "ORD-101"]) == Exit.DONE
    text = capsys.readouterr().out
    assert "done inventory.cancel_reservation" in text
    assert "done payment.refund_payment" in text


@pytest.mark.usefixtures("in_folder")
def test_an_event_ends_the_wait_of_a_saga(capsys: pytest.CaptureFixture[str]) -> None:
    accepted = answer(capsys, "start", "expense_approval", "--id", "EXP-102", "--input", expense("EXP-102"))
    assert accepted["id"] == "EXP-102"
    running(capsys, "EXP-102")
    words = ["start", "expense_approval", "--id", "EXP-102", "--input", expense("EXP-102"), "--wait"]
    assert main([*words, "--timeout", "0.2"]) == Exit.WAITED
    assert "EXP-102 is running after 0.2 s" in capsys.readouterr().err
    decision = '{"approved": true, "by": "ann"}'
    sent = answer(capsys, "event", "EXP-102", "decided", "--data", decision, "--event-id", "one")
    assert sent["name"] == "approvals.decided"  # its last part will do
    assert main(words) == Exit.DONE
    capsys.readouterr()
    shown = answer(capsys, "show", "EXP-102", "--history")
    assert shown["result"] == {"approved": True, "escalated": False}
    assert [row["kind"] for row in shown["history"]][-2:] == ["event", "ended"]
    assert main(["show", "EXP-102", "--history"]) == Exit.DONE
    assert "approvals.decided" in capsys.readouterr().out


def test_a_history_is_exported_as_it_is_stored(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", "order_processing", "--id", "ORD-140", "--input", order("ORD-140"), "--wait"]) == Exit.DONE
    capsys.readouterr()
    shown = answer(capsys, "show", "ORD-140", "--history")["history"]
    said = answer(capsys, "show", "ORD-140", "--export", "ORD-140.jsonl")
    assert (said["file"], said["rows"]) == ("ORD-140.jsonl", len(shown))
    written = (in_folder / "ORD-140.jsonl").read_bytes()
    read = recorded.read(written.splitlines())
    assert (read.head.saga, read.head.id, read.head.status) == ("order_processing", "ORD-140", "completed")
    assert [(row.seq, row.kind, row.name, row.ref) for row in read.rows] == [
        (row["seq"], row["kind"], row["name"], row["ref"]) for row in shown
    ]
    assert b"".join(recorded.lines(read)) == written
    assert main(["check", "sagabus.shop.order_processing", "--histories", "ORD-140.jsonl"]) == Exit.DONE
    assert "order_processing version 1: 0 open, 0 follow, 0 would stop; 1 closed, 0 of them not followed" in (
        capsys.readouterr().out
    )
    main(["check", "sagabus.shop.order_processing", "--database", "--json"])  # other tests leave sagas of any name
    of_shop = [one for one in json.loads(capsys.readouterr().out)["histories"] if one["saga"] == "order_processing"]
    assert [(one["closed"] > 0, one["closed_stop"]) for one in of_shop] == [(True, 0)]
    assert main(["show", "ORD-140", "--export"]) == Exit.DONE
    assert recorded.read(capsys.readouterr().out.encode().splitlines()) == read


@pytest.mark.usefixtures("in_folder")
def test_an_export_that_cannot_be_written_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "start", "expense_approval", "--id", "EXP-141", "--input", expense("EXP-141"))
    assert main(["show", "EXP-141", "--export", "nowhere/EXP-141.jsonl"]) == Exit.NOT_WRITTEN
    assert "nowhere/EXP-141.jsonl cannot be written: No such file or directory" in capsys.readouterr().err
    assert main(["show", "EXP-nobody", "--export"]) == Exit.NOT_FOUND


@pytest.mark.usefixtures("in_folder")
def test_an_event_is_answered_with_what_becomes_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "start", "expense_approval", "--id", "EXP-130", "--input", expense("EXP-130"))
    running(capsys, "EXP-130")
    assert main(["event", "EXP-130", "approvals.decide"]) == Exit.REFUSED
    err = capsys.readouterr().err
    assert err.endswith("did you mean 'approvals.decided'? To send it by this very name, add --exact\n")
    assert main(["event", "EXP-130", "approvals.decide", "--exact"]) == Exit.DONE
    assert capsys.readouterr().out == (
        "EXP-130: event approvals.decide accepted; it is kept until the saga's code waits for it; "
        "now it waits for approvals.decided\n"
    )
    blocking_until(lambda: answer(capsys, "show", "EXP-130")["events"] != [])
    (event,) = answer(capsys, "show", "EXP-130")["events"]
    assert (event["name"], event["kept"]) == ("approvals.decide", 1)
    assert main(["event", "EXP-131", "approvals.decided"]) == Exit.REFUSED
    err = capsys.readouterr().err
    assert err.endswith("data: Input should be an object. To send it as it is, add --exact\n")
    decision = '{"approved": true, "by": "ann"}'
    assert main(["event", "EXP-131", "approvals.decided", "--data", decision]) == Exit.DONE
    assert "no saga EXP-131 is started yet: it is kept for 60 min" in capsys.readouterr().out
    assert main(["cancel", "EXP-130", "--until-closed"]) == Exit.DONE
    capsys.readouterr()
    assert main(["event", "EXP-130", "approvals.decided"]) == Exit.REFUSED
    refused = "EXP-130: event refused: saga EXP-130 has ended (cancelled)"
    assert capsys.readouterr().err == f"sagabus: {refused} (saga.closed)\n"
    assert main(["event", "EXP-130", "approvals.decided", "--json"]) == Exit.REFUSED
    assert json.loads(capsys.readouterr().out) == {
        "id": "EXP-130", "request": "event", "outcome": "refused",
        "error": {"code": "saga.closed", "message": refused},
    }  # fmt: skip


@pytest.mark.usefixtures("in_folder")
def test_a_cancelled_saga_is_undone(capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "start", "expense_approval", "--id", "EXP-103", "--input", expense("EXP-103"))
    running(capsys, "EXP-103")
    assert main(["cancel", "EXP-103", "--reason", "left", "--until-closed"]) == Exit.DONE
    assert capsys.readouterr().out == "EXP-103 is cancelled: sagabus.cancelled: left\n"


@pytest.mark.usefixtures("in_folder")
def test_lists_say_what_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for number in (104, 105):
        words = ["start", "order_processing", "--id", f"ORD-{number}", "--input", order(f"ORD-{number}"), "--wait"]
        assert main(words) == Exit.DONE
    capsys.readouterr()
    listed = answer(capsys, "list", "--status", "completed", "--saga", "order_processing")
    assert [one["id"] for one in listed][:2] == ["ORD-105", "ORD-104"]
    assert main(["list", "--limit", "1"]) == Exit.DONE
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2  # with the headings
    assert said.err.startswith("sagabus: there are more: go on with --cursor ")
    assert answer(capsys, "list", "--status", "terminated") == []


@pytest.mark.usefixtures("in_folder")
def test_a_list_goes_on_where_the_one_before_has_ended(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pages of one, with no more at the end."""
    for number in (110, 111, 112):
        words = ["start", "order_processing", "--id", f"PAGE-{number}", "--input", order(f"ORD-{number}"), "--wait"]
        assert main(words) == Exit.DONE
    capsys.readouterr()
    assert main(["list", "--id-prefix", "PAGE-", "--limit", "2", "--json"]) == Exit.DONE
    said = capsys.readouterr()
    assert [one["id"] for one in json.loads(said.out)] == ["PAGE-110", "PAGE-111"]
    cursor = said.err.partition("--cursor ")[2].partition(",")[0]
    monkeypatch.setattr(sagas, "PAGE", 1)
    rest = answer(capsys, "list", "--id-prefix", "PAGE-", "--cursor", cursor)
    assert [one["id"] for one in rest] == ["PAGE-112"]
    whole = answer(capsys, "list", "--id-prefix", "PAGE-", "--limit", "100000")
    assert [one["id"] for one in whole] == ["PAGE-110", "PAGE-111", "PAGE-112"]


@pytest.mark.usefixtures("in_folder")
def test_c4_show_says_what_a_saga_waits_for_and_watch_follows_it_to_its_end(
    host: DevHost, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, "start", "expense_approval", "--id", "EXP-120", "--input", expense("EXP-120"))
    running(capsys, "EXP-120")
    assert main(["show", "EXP-120"]) == Exit.DONE
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if line.startswith("  waits: ")]
    assert [line.partition(",")[0] for line in lines] == [
        "  waits: its code waits for the event approvals.decided", "  waits: a sleep",
    ]  # fmt: skip
    assert main(["list", "--id-prefix", "EXP-120", "--updated-before", "0s"]) == Exit.DONE
    assert "  event approvals.decided, for " in capsys.readouterr().out
    with watching(host, "EXP-120") as watch:
        decision = '{"approved": true, "by": "ann"}'
        answer(capsys, "event", "EXP-120", "approvals.decided", "--data", decision)
        assert watch.blocking_end() == Exit.DONE
    assert "  event  approvals.decided  " in watch.stdout
    assert watch.stdout.endswith('EXP-120 is completed: {"approved": true, "escalated": false}\n')
    assert main(["watch", "EXP-120", "--json"]) == Exit.DONE
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["saga"]["status"] == "completed"


@pytest.mark.usefixtures("in_folder")
def test_a_watch_ends_as_its_saga_does_and_with_130_when_it_is_interrupted(
    host: DevHost, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, "start", "expense_approval", "--id", "EXP-121", "--input", expense("EXP-121"))
    running(capsys, "EXP-121")
    with watching(host, "EXP-121") as watch:
        watch.send(signal.SIGINT)
        assert watch.blocking_end() == Exit.INTERRUPTED
    assert watch.stderr == ""
    assert main(["cancel", "EXP-121", "--until-closed"]) == Exit.DONE
    assert main(["watch", "EXP-121"]) == Exit.ENDED_OTHERWISE
    assert main(["watch", "EXP-999"]) == Exit.NOT_FOUND


def watching(host: DevHost, id: str) -> Child:
    """`sagabus watch`, as a process that has begun."""
    child = Child.python("sagabus.commands.main", "watch", id, folder=host.folder, name=f"watch-{id}")
    blocking_until(lambda: f"{id}: expense_approval version 1 is running" in child.stdout)
    return child


@pytest.mark.usefixtures("in_folder")
def test_a_saga_is_found_as_soon_as_its_start_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(5):
        id = f"EXP-14{number}"
        assert main(["start", "expense_approval", "--id", id, "--input", expense(id)]) == Exit.DONE
        assert capsys.readouterr().out == f"{id}: accepted\n"
        assert main(["show", id]) == Exit.DONE
        capsys.readouterr()


@pytest.mark.usefixtures("in_folder")
def test_a_saga_that_has_not_begun_is_accepted_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def not_yet(*_: object, **__: object) -> bool:
        return False

    monkeypatch.setattr(CoordinatorApi, "begun", not_yet)
    assert main(["start", "expense_approval", "--id", "EXP-145", "--input", expense("EXP-145")]) == Exit.DONE
    assert capsys.readouterr().out == (
        "EXP-145: accepted; it has not begun yet, `sagabus show EXP-145` tells when it has\n"
    )


@pytest.mark.usefixtures("in_folder")
def test_another_input_under_a_used_id_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["start", "order_processing", "--id", "ORD-106", "--wait", "--input"]
    assert main([*words, order("ORD-106")]) == Exit.DONE
    for again in (words, [word for word in words if word != "--wait"]):
        assert main([*again, order("ORD-106", city="Osaka")]) == Exit.REFUSED
        assert capsys.readouterr().err == "sagabus: saga ORD-106 was started with another input; choose another id\n"
        assert main([*again, order("ORD-106")]) == Exit.DONE
        capsys.readouterr()
    assert main(["dead-letters", "list", "--saga", "ORD-106", "--json"]) == Exit.DONE
    assert json.loads(capsys.readouterr().out)["letters"] == []


@pytest.mark.usefixtures("in_folder")
def test_what_goes_wrong_has_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "ORD-999"]) == Exit.NOT_FOUND
    assert main(["show", "a/b"]) == Exit.USAGE
    assert main(["start", "order_processing", "--id", "a/b", "--input", "{}"]) == Exit.USAGE
    assert main(["start", "order_processing", "--id", "x", "--input", "{nonsense"]) == Exit.USAGE
    assert main(["list", "--concern", "odd"]) == Exit.REFUSED
    odd = json.dumps({**EXPENSE, "aprover": "bob"})
    assert main(["start", "expense_approval", "--id", "EXP-108", "--input", odd]) == Exit.DONE
    rejected = ["start", "order_processing", "--id", "ORD-107", "--input", "{}", "--wait", "--timeout", "0.5"]
    assert main(rejected) == Exit.REFUSED
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "EXP-108: the saga's input has no field 'aprover': what was given is ignored" in said
    assert "start of order_processing: input.order_id: Field required; input.customer_email: Field required; " in said
    assert main(["show", "ORD-107"]) == Exit.NOT_FOUND


def test_without_settings_and_without_a_host_the_cure_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["list"]) == Exit.USAGE
    assert "no `sagabus dev` runs in this folder, and SAGABUS_URL is not set" in capsys.readouterr().err
    monkeypatch.setenv("SAGABUS_URL", f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    assert main(["list"]) == Exit.UNREACHABLE
    assert time.monotonic() - began < 10
    assert "unreachable" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("show",), ("cancel",), ("acknowledge", "--reason", "x")])
def test_an_empty_id_is_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SAGABUS_URL", f"http://127.0.0.1:{free_port()}")
    assert main([words[0], "", *words[1:]]) == Exit.USAGE
    assert "saga id ''" in capsys.readouterr().err


@pytest.mark.parametrize("id", [".", ".."])
def test_an_id_that_a_url_loses_is_not_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], id: str
) -> None:
    monkeypatch.setenv("SAGABUS_URL", f"http://127.0.0.1:{free_port()}")
    assert main(["start", "order", "--id", id, "--input", "{}"]) == Exit.USAGE
    assert "a URL loses it" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["nan", "-1", "-inf", "soon"])
def test_a_timeout_that_is_no_time_is_usage(capsys: pytest.CaptureFixture[str], seconds: str) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["cancel", "ORD-1", "--until-closed", f"--timeout={seconds}"])
    assert leaving.value.code == Exit.USAGE
    assert f"--timeout: {'invalid' if seconds == 'soon' else repr(seconds)}" in capsys.readouterr().err


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "order.json").write_text('{"city": "東京"}', encoding="utf-8-sig")
    assert given(str(tmp_path / "order.json")) == {"city": "東京"}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO('["é"]'.encode("utf-8-sig"))))
    assert given("-") == ["é"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_a_file_of_another_encoding_is_told_so(tmp_path: Path, encoding: str) -> None:
    mark = "" if encoding in ("utf-16", "utf-32") else "\ufeff"
    file = tmp_path / "order.json"
    file.write_bytes((mark + '{"city": "東京"}').encode(encoding))
    with pytest.raises(
        Failed, match=rf"order.json' is no JSON: it is written in {encoding[:6].upper()}: save it as UTF-8"
    ):
        given(str(file))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("words", [("list",), ("list", "--json")])
def test_an_output_that_cannot_be_written_is_one_line(host: DevHost, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "sagabus.commands.main", *words]
        process = subprocess.run(
            command, cwd=host.folder, env=clean({}), stdout=full, stderr=subprocess.PIPE, timeout=60, check=False
        )
    said = process.stderr.decode()
    assert (process.returncode, said) == (
        Exit.NOT_WRITTEN, "sagabus: the output cannot be written: No space left on device\n"
    )  # fmt: skip


def test_without_an_output_nothing_is_said(host: DevHost) -> None:
    """As cron and some supervisors start a command: with no standard output at all."""
    command = f"exec {shlex.quote(sys.executable)} -m sagabus.commands.main list --json >&-"
    process = subprocess.run(
        ["sh", "-c", command], cwd=host.folder, env=clean({}), stderr=subprocess.PIPE, timeout=60, check=False
    )
    assert (process.returncode, process.stderr) == (Exit.DONE, b"")


def test_a_url_leads_to_the_coordinator_from_anywhere(
    host: DevHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAGABUS_URL", host.url)
    assert main(["list"]) == Exit.DONE
    assert capsys.readouterr().out.startswith("ID ")


ASCII: list[dict[str, str]] = [
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


@pytest.mark.parametrize("environment", ASCII, ids=["ioencoding", "locale"])
def test_c7_a_terminal_without_our_letters_sees_escapes(host: DevHost, environment: dict[str, str]) -> None:
    """Text and JSON, and JSON stays JSON. Errors too: standard error has the same encoding."""

    def said(*words: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "sagabus.commands.main", *words]
        return subprocess.run(
            command, cwd=host.folder, env=clean(environment), capture_output=True, timeout=60, check=False
        )

    id = f"EXP-88{ASCII.index(environment)}"
    started = said("start", "expense_approval", "--id", id, "--input", expense(id))
    assert started.returncode == Exit.DONE, started.stderr
    for words in (
        ("event", id, "x.y", "--data", '"日本"'),
        ("cancel", id, "--reason", "日本", "--until-closed"),
    ):
        assert said(*words).returncode == Exit.DONE
    shown = said("show", id, "--history")
    assert (shown.returncode, b"\\u65e5\\u672c" in shown.stdout) == (Exit.DONE, True), shown.stderr
    error = json.loads(said("show", id, "--json").stdout)["error"]
    assert error["message"] == "日本"
    refused = said("show", "日本")
    assert (refused.returncode, b"Traceback" in refused.stderr) == (Exit.USAGE, False), refused.stderr


def test_c7_whoever_has_a_number_and_no_name_is_told_by_the_number(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a container that runs as any uid: there is no entry in passwd, and no LOGNAME or USER."""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nobody)
    answer(capsys, "start", "expense_approval", "--id", "EXP-89", "--input", expense("EXP-89"))
    running(capsys, "EXP-89")
    assert answer(capsys, "cancel", "EXP-89")["outcome"] == "applied"
    (row,) = [row for row in answer(capsys, "show", "EXP-89", "--history")["history"] if row["kind"] == "cancel"]
    assert row["name"] == f"uid {os.getuid()}"


@pytest.mark.parametrize(
    "words",
    [
        ("cancel", "EXP-90", "--reason", "\udcff"),
        ("list", "--saga", "\udcff"),
        ("show", "\udcff"),
        ("event", "EXP-90", "a.b", "--event-id", "\udcff"),
        ("retry", "EXP-90", "--step", "1", "--reason", "r", "--actor", "\udcff"),
        ("retry", "EXP-90", "--step", "9" * 30, "--reason", "r"),
        ("start", "expense_approval", "--id", "\udcff", "--input", "{}"),
        ("start", "\udcff", "--id", "EXP-90", "--input", "{}"),
        ("start", "expense_approval", "--id", "EXP-90", "--input", '"\udcff"'),
        ("start", "expense_approval", "--id", "EXP-90", "--input", "\0"),
        ("list", "--saga", "\0"),
        ("list", "--limit", "0"),
    ],
)
def test_c7_arguments_that_are_no_text_are_refused_in_words(
    in_folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """A shell hands over bytes that are not UTF-8 as lone surrogates."""
    assert main(words) in (Exit.USAGE, Exit.REFUSED)
    assert "Traceback" not in capsys.readouterr().err


def test_b11_what_a_person_has_seen_is_acknowledged_on_a_closed_saga_too(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A participant answers a settle that nobody asked for, after the saga has ended."""
    words = ("--reason", "a fault of theirs, see case 18", "--actor", "ann")
    answer(capsys, "start", "expense_approval", "--id", "EXP-91", "--input", expense("EXP-91"))
    running(capsys, "EXP-91")
    run = answer(capsys, "show", "EXP-91")["run"]
    assert main(["cancel", "EXP-91", "--until-closed"]) == Exit.DONE
    asyncio.run(publish(unasked_reply("EXP-91", run)))

    def concerns() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = answer(capsys, "show", "EXP-91")["concerns"]
        return found

    blocking_until(lambda: [(one["kind"], one["step"]) for one in concerns()] == [("unasked", 1)])
    capsys.readouterr()
    assert main(["show", "EXP-91"]) == Exit.DONE
    assert "needs operator action: unasked (step 1): " in capsys.readouterr().out
    assert "EXP-91" in [one["id"] for one in answer(capsys, "list", "--attention")]
    assert answer(capsys, "acknowledge", "EXP-91", *words)["id"] == "EXP-91"
    blocking_until(lambda: concerns() == [])
    assert "EXP-91" not in [one["id"] for one in answer(capsys, "list", "--attention")]
    last = answer(capsys, "show", "EXP-91", "--history")["history"][-1]
    assert (last["kind"], last["name"], last["payload"]["actor"]) == ("operator", "acknowledge", "ann")


def unasked_reply(id: str, run: str) -> Message:
    cause = command_id(id, run, 1, CommandKind.SETTLE)
    headers = {"ce_causationid": cause, "ce_attempt": "1", "ce_type": "sagabus.reply.never", "ce_id": f"{cause}:x"}
    packed = tuple((name, value.encode()) for name, value in headers.items())
    return Message.of("sagabus.replies.approvals", id.encode(), b"null", packed, id)


async def publish(message: Message) -> None:
    producer = find_backing(load_settings(require=(), kafka="embedded")).kafka.producer()
    await producer.publish([message])
    await producer.stop()

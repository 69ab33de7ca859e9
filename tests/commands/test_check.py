"""`sagabus check` and `sagabus diff`, on files and on a database: what they find, say, and end with."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from sagabus.commands.check import histories
from sagabus.commands.main import main
from sagabus.commands.subcommand import Exit
from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga import recorded
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.recorded import Recorded
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.store import SagaRow, Store, Writes
from sagabus.coordinator.store.copy_format import NewHistory
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.rows import SagaKey, head_of
from sagabus.messaging.postgres.database import Connection, Database
from tests.coordinator.saga_rows import AT, saga
from tests.core.kit import Drive
from tests.core.services import paid
from tests.support.ports import free_port

HEAD = """\
from sagabus.coordinator import SagaContext, saga
from tests.core.services import Order, Result, count, paid, reserve

"""

CODE = """\
@saga("saga"{more})
async def moving(ctx: SagaContext, order: Order) -> Result:
    done = await ctx.call({first}(order=order.order))
    await ctx.event(paid)
    return Result(refs=[done.ref])
"""

Module = Callable[..., str]
_numbers = itertools.count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Module]:
    """Writes one into the current directory, and gives its name."""
    monkeypatch.chdir(tmp_path)
    made: list[str] = []

    def write(*parts: str) -> str:
        made.append(f"checked_{next(_numbers)}")
        (tmp_path / f"{made[-1]}.py").write_text(HEAD + "\n\n".join(parts))
        importlib.invalidate_caches()
        return made[-1]

    yield write
    for name in made:
        sys.modules.pop(name, None)
    sys.path[:] = [place for place in sys.path if place != str(tmp_path)]


def code(first: str = "count", more: str = "") -> str:
    return CODE.format(first=first, more=more)


def drive_of(name: str, id: str = "M-1") -> Drive:
    """A saga of this module that waits for its event."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    drive = Drive(importlib.import_module(name).moving, id=id).start()
    drive.completed(1)
    return drive


def row_of(drive: Drive, **changes: Any) -> SagaRow:
    made = saga(drive.id)
    status = SagaStatus(drive.status)
    made = replace(made, definition="saga", version=1, fingerprint=drive.stored.fingerprint, status=status)
    return replace(made, run=RunId("r1"), closed_at=drive.stored.closed_at, **changes)


def write(drive: Drive, file: Path, **changes: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    lines = recorded.lines(Recorded(head_of(row_of(drive, **changes)), drive.rows))
    file.write_bytes(b"".join(lines))


def said(capsys: pytest.CaptureFixture[str], exit: int, *words: str) -> Any:
    assert main([*words, "--json"]) == exit
    return json.loads(capsys.readouterr().out)


def test_a_history_that_is_followed(module: Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = module(code())
    write(drive_of(name), tmp_path / "kept" / "M-1.jsonl")
    assert main(["check", name, "--histories", "kept"]) == Exit.DONE
    assert capsys.readouterr().out == (
        "saga version 1: 1 open, 1 follow, 0 would stop\n1 definition, 1 history: 0 errors, 0 warnings\n"
    )


def test_one_that_is_not_is_told_in_the_words_of_the_product(
    module: Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(drive_of(module(code())), tmp_path / "kept" / "M-1.jsonl")
    changed = module(code("reserve"))
    found = said(capsys, Exit.FOUND, "check", changed, "--histories", "kept")
    assert not found["well"]
    (one,) = found["findings"]
    words = "history has command stock.count (number 1) at row 2, the code now makes command stock.reserve (number 1)"
    assert one["what"].startswith(f"{words}; its code has changed (")
    assert one["what"].endswith(" (kept/M-1.jsonl)")
    assert (one["code"], one["severity"], one["id"], one["row"]) == ("history.diverged", "error", "M-1", 2)
    assert one["place"] == f"{changed}.py:{HEAD.count(chr(10)) + 3}"
    assert found["histories"] == [
        {
            "saga": "saga",
            "version": 1,
            "open": 1,
            "follow": 0,
            "stop": 1,
            "closed": 0,
            "closed_stop": 0,
            "has_code": True,
        }
    ]
    assert main(["check", changed, "--histories", "kept/M-1.jsonl"]) == Exit.FOUND
    assert capsys.readouterr().out.startswith(f"{one['place']}: error [history.diverged] saga version 1, M-1: {words}")


def test_a_closed_one_of_a_file_has_to_be_followed_too(
    module: Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drive = drive_of(module(code()))
    drive.event(paid, {"amount": 1})
    write(drive, tmp_path / "kept" / "M-1.jsonl")
    found = said(capsys, Exit.FOUND, "check", module(code("reserve")), "--histories", "kept")
    assert [one["severity"] for one in found["findings"]] == ["error"]


def test_a_version_without_code_is_told_once(
    module: Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drive = drive_of(module(code()))
    for id in ("M-1", "M-2"):
        write(drive, tmp_path / "kept" / f"{id}.jsonl", id=SagaId(id))
    newer = module(code("reserve", ", version=2"))
    (one,) = said(capsys, Exit.FOUND, "check", newer, "--histories", "kept")["findings"]
    assert (one["code"], one["severity"]) == ("history.no_code", "error")
    words = "2 open and 0 closed sagas of saga version 1, which these modules do not have; they have saga version 2"
    assert one["what"] == words
    both = module(code(), code("reserve", ", version=2").replace("moving", "newer"))
    assert main(["check", both, "--histories", "kept"]) == Exit.DONE


def test_a_saga_that_waits_for_its_definition_is_replayed_with_the_newest(
    module: Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(drive_of(module(code())), tmp_path / "kept" / "M-1.jsonl", version=0)
    both = module(code("reserve"), code(more=", version=2").replace("moving", "newer"))
    assert main(["check", both, "--histories", "kept"]) == Exit.DONE


def test_more_than_a_few_are_counted(
    module: Module, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histories, "SHOWN", 1)
    monkeypatch.setattr(histories, "PROGRESS_SECONDS", 0.0)
    drive = drive_of(module(code()))
    for id in ("M-1", "M-2", "M-3"):
        write(drive, tmp_path / "kept" / f"{id}.jsonl", id=SagaId(id))
    assert main(["check", module(code("reserve")), "--histories", "kept"]) == Exit.FOUND
    out, err = capsys.readouterr()
    assert "saga version 1: 2 more that do not follow are not listed\n" in out
    assert out.endswith("1 definition, 3 histories: 1 error, 0 warnings\n")
    assert "sagabus: 2 histories replayed so far\n" in err


def test_lints_are_part_of_it(module: Module, capsys: pytest.CaptureFixture[str]) -> None:
    name = module("import time\n", code() + "    print(time.time())\n")
    found = said(capsys, Exit.FOUND, "check", name)
    assert [(one["code"], one["severity"]) for one in found["findings"]] == [("clock", "error"), ("print", "warning")]
    assert main(["check", name, "--no-lints"]) == Exit.DONE
    only = module(code() + "    print(order)\n")
    assert main(["check", only]) == Exit.DONE
    assert "[print]" in capsys.readouterr().out


def test_contracts_are_written_and_compared(module: Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contracts = textwrap.dedent(
        """
        from pydantic import BaseModel
        from sagabus.contracts import Service

        class Job(BaseModel):
            order: str{more}

        stock = Service("stock")
        pack = stock.activity("pack", Job)
        """
    )
    before, after = module(contracts.format(more="")), module(contracts.format(more="\n    weight: int"))
    assert main(["check", before, "--write-contracts", "contracts.json"]) == Exit.DONE
    assert main(["check", before, "--contracts", "contracts.json"]) == Exit.DONE
    capsys.readouterr()
    (one,) = said(capsys, Exit.FOUND, "check", after, "--contracts", "contracts.json")["findings"]
    assert one["what"] == "stock.pack: input.weight: it is a new field, and required"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--histories", "nowhere"],
            "--histories: nowhere is not there: write one with `sagabus show ID --export FILE`",
        ),
        (["--histories", "."], "--histories: . holds no file *.jsonl"),
        (["--histories", "bad"], 'the first line has no field "sagabus"'),
        (["--sample", "3"], "--sample is about a database: add --database, or --database URL"),
        (["--database", "postgresql://a/b", "--sample", "0"], "--sample 0: give a whole number from 1 on"),
        (["--contracts", "nowhere.json"], "nowhere.json cannot be read"),
    ],
)
def test_what_cannot_be_is_refused(
    module: Module, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jsonl").write_text("{}\n")
    (tmp_path / "bad" / "b.txt").write_text("")
    if words[-1] == ".":
        (tmp_path / "bad" / "a.jsonl").unlink()
    assert main(["check", module(code()), *words]) == Exit.USAGE
    assert said in capsys.readouterr().err


def test_without_a_saga_there_is_nothing_to_check(module: Module, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", module("")]) == Exit.USAGE
    assert "no saga in" in capsys.readouterr().err


async def _stored(database: str, drives: list[Drive]) -> None:
    await migrate(database, "sagabus")
    pool = Database(database)
    try:
        async with pool.transaction() as connection:
            for drive in drives:
                row = row_of(drive)
                await Store("sagabus").write(
                    connection, Writes(new_sagas=[row], history=NewHistory((row.key, drive.rows, 1)))
                )
    finally:
        await pool.stop()


@pytest.fixture
def filled(database: str, module: Module, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with five open sagas of version 1, and two that have closed; the name of their module."""
    name = module(code())
    drives = [drive_of(name, f"M-{number}") for number in range(5)]
    for number in (5, 6):
        drives.append(drive_of(name, f"M-{number}"))
        drives[-1].event(paid, {"amount": 1})
    asyncio.run(_stored(database, drives))
    monkeypatch.setenv("SAGABUS_DATABASE", database)
    return name


def test_a_sample_of_a_database_is_replayed(filled: str, module: Module, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, Exit.DONE, "check", filled, "--database")
    assert (found["well"], found["findings"]) == (True, [])
    assert [(one["open"], one["follow"], one["closed"]) for one in found["histories"]] == [(5, 5, 2)]
    found = said(capsys, Exit.DONE, "check", filled, "--database", "--sample", "1")
    assert [(one["open"], one["closed"]) for one in found["histories"]] == [(1, 1)]
    found = said(capsys, Exit.FOUND, "check", module(code("reserve")), "--database", "--sample", "1")
    severities = [(one["code"], one["severity"]) for one in found["findings"]]
    assert sorted(severities) == [("history.diverged", "error"), ("history.diverged", "warning")]


def test_a_closed_saga_of_a_database_that_does_not_follow_is_a_warning(
    database: str, module: Module, capsys: pytest.CaptureFixture[str]
) -> None:
    drive = drive_of(module(code()))
    drive.event(paid, {"amount": 1})
    asyncio.run(_stored(database, [drive]))
    changed = module(code("reserve"))
    assert main(["check", changed, "--database", database]) == Exit.DONE
    out = capsys.readouterr().out
    assert "saga version 1: 0 open, 0 follow, 0 would stop; 1 closed, 1 of them not followed\n" in out
    gone = said(capsys, Exit.DONE, "check", module(code(more=", version=2")), "--database", database)
    assert [(one["code"], one["severity"]) for one in gone["findings"]] == [("history.no_code", "warning")]


def test_diff_replays_all_open_sagas_and_no_others(
    filled: str, module: Module, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histories, "PAGE", 2)
    monkeypatch.setattr(histories, "AT_A_TIME", 2)
    assert main(["diff", filled]) == Exit.DONE
    assert capsys.readouterr().out == (
        "saga version 1: 5 open, 5 follow, 0 would stop\n1 definition, 5 histories: 0 errors, 0 warnings\n"
    )
    found = said(capsys, Exit.FOUND, "diff", module(code("reserve")))
    assert [one["id"] for one in found["findings"]] == [f"M-{number}" for number in range(5)]
    found = said(capsys, Exit.FOUND, "diff", module(code("reserve")), "--sample", "2")
    assert [(one["open"], one["stop"]) for one in found["histories"]] == [(2, 2)]
    found = said(capsys, Exit.FOUND, "diff", module(code(more=", version=2")))
    assert [(one["open"], one["stop"], one["has_code"]) for one in found["histories"]] == [(5, 5, False)]
    assert main(["diff", module(code(more=", version=2"))]) == Exit.FOUND
    assert "saga version 1: 5 open, and no code for them: all would stop\n" in capsys.readouterr().out


def test_a_database_without_sagas_stops_none(database: str, module: Module, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(_stored(database, []))
    assert main(["diff", module(code()), "--database", database]) == Exit.DONE
    assert capsys.readouterr().out.startswith("no sagas were found, so none is stopped\n")


def test_one_that_is_not_there_is_told(module: Module, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"postgresql://postgres@127.0.0.1:{free_port()}/none"
    assert main(["diff", module(code()), "--database", url]) == Exit.UNREACHABLE
    assert "sagabus: " in capsys.readouterr().err


def test_tables_that_are_not_there_are_told(database: str, module: Module, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", module(code()), "--database", database]) == Exit.REFUSED
    assert "run `sagabus migrate`" in capsys.readouterr().err


async def test_long_histories_are_read_whole_and_nothing_may_be_written(database: str) -> None:
    await migrate(database, "sagabus")
    row = saga()
    rows = [Row(seq, AT + seq, Kind.STARTED, payload=b"{}") for seq in range(1, 2_001)]
    pool = Database(database)
    try:
        async with pool.transaction() as connection:
            await Store("sagabus").write(connection, Writes(new_sagas=[row], history=NewHistory((row.key, rows, 1))))
        reader = histories.DatabaseHistories(database, "sagabus")
        found = [one async for one in reader.recorded([row.key, SagaKey(SagaId("nobody"), RunId("r1"))])]
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await reader._read(_writes)
        await reader.stop()
    finally:
        await pool.stop()
    assert [(one.head, [each.seq for each in one.rows]) for one in found] == [(head_of(row), [*range(1, 2_001)])]


async def _writes(connection: Connection) -> None:
    await connection.execute("DELETE FROM sagabus.history")

"""The examples run as their first lines say, and do what they say."""

from __future__ import annotations

import ast
import shlex

import asyncpg

from sagabus.messaging.embedded.run_file import read_run
from tests.support.dev_host import DevHost
from tests.support.folders import data_folder
from tests.support.processes import ROOT, Child

TRIP = ROOT / "examples" / "trip.py"


def commands() -> list[list[str]]:
    docstring = ast.get_docstring(ast.parse(TRIP.read_text())) or ""
    return [shlex.split(line) for line in docstring.splitlines() if line.lstrip().startswith("sagabus ")]


async def test_a_trip_is_booked_at_once_and_cancelled_in_reverse() -> None:
    dev, *starts = commands()
    with data_folder() as folder:
        (folder / TRIP.name).symlink_to(TRIP)
        with DevHost(folder, *dev[2:]):
            ended = []
            for _, *words in starts:
                start = Child.python("sagabus.commands.main", *words, folder=folder, name=words[3])
                ended.append(await start.ended())
            assert ended == [0, 1]
            run = read_run(folder / ".sagabus")
            assert run is not None
            rows = await _ledger(run.database)
    good = [what for what, booking in rows if "TRIP-1" in booking]
    assert sorted(good) == ["charged", "flight", "hotel"]
    bad = [what for what, booking in rows if "TRIP-2" in booking]
    assert bad[2:] == [f"{what} cancelled" for what in reversed(bad[:2])]
    assert sorted(bad[:2]) == ["flight", "hotel"]


async def _ledger(database: str) -> list[tuple[str, str]]:
    connection = await asyncpg.connect(database)
    rows = await connection.fetch("SELECT what, booking_id FROM travel_ledger ORDER BY number")
    await connection.close()
    return [(row["what"], row["booking_id"]) for row in rows]

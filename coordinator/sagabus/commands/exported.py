"""`sagabus show ID --export`: the whole history of a saga as a file that `sagabus check` replays, and tests too."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Final

from sagabus.client.coordinator_api import CoordinatorApi, Json
from sagabus.commands.printable import printable
from sagabus.commands.subcommand import Exit, Failed, say, say_json

STANDARD_OUTPUT: Final = "-"


async def export(api: CoordinatorApi, saga: Json, options: Namespace) -> Exit:
    """The first line has the saga as it was when the last rows were read."""
    head, rows = await _read(api, saga)
    if options.export == STANDARD_OUTPUT:
        for fields in (head, *rows):
            say_json(fields)
        return Exit.DONE
    _write(Path(options.export), [head, *rows])
    if options.json:
        say_json({"id": saga["id"], "run": saga["run"], "file": options.export, "rows": len(rows)})
    else:
        say(f"{saga['id']}: {len(rows)} rows of history are in {options.export}")
    return Exit.DONE


async def _read(api: CoordinatorApi, saga: Json) -> tuple[Json, list[Json]]:
    """Page by page: a long history has 20,000 rows."""
    rows: list[Json] = []
    after: int | None = 0
    while after is not None:
        page = await api.export(saga["id"], run=saga["run"], after=after)
        rows += page["rows"]
        head, after = page["head"], page["next"]
    return head, rows


def _write(file: Path, lines: list[Json]) -> None:
    from sagabus.contracts.json_value import encode_value  # who exports nothing does not need it

    try:
        file.write_bytes(b"".join(encode_value(fields) + b"\n" for fields in lines))
    except OSError as error:
        raise Failed(Exit.NOT_WRITTEN, printable(f"{file} cannot be written: {error.strerror}")) from error

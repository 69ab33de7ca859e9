"""`watch`: follows one saga until it has closed, and tells what changes."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from sagabus.client.coordinator_api import (
    CLOSED,
    RESTART_SECONDS,
    RETRY_PAUSE_SECONDS,
    CoordinatorUnreachable,
    Json,
    NoSuchSaga,
)
from sagabus.commands import sheets, wait_sheets
from sagabus.commands.printable import printable
from sagabus.commands.saga_arguments import json_argument
from sagabus.commands.sagas import no_such_saga, opened_api
from sagabus.commands.subcommand import Exit, Subcommand, say, say_json

FIRST_PAUSE_SECONDS: Final = 0.25
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Between two looks: the longer nothing happens, the longer. The end of the saga is heard of earlier."""


class Api(Protocol):
    """What is needed of `CoordinatorApi`."""

    async def saga(self, id: str, *, wait: float = 0) -> Json: ...

    async def history(self, id: str, *, run: str, after: int = 0) -> Json: ...


class Teller:
    """Says what has changed: a line for people, or with `json` one JSON value a line, {"row": …} or {"saga": …}."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._before: dict[str, Any] = {}

    def row(self, row: Json) -> None:
        say_json({"row": row}) if self._json else say(sheets.row(row))

    def saga(self, saga: Json) -> None:
        """Where it is not as it was told the last time."""
        stands = {name: saga[name] for name in ("run", "status", "concerns")}
        stands["waits"] = [wait["words"] for wait in saga.get("waits", ())]
        before, self._before = self._before, stands
        if stands == before:
            return
        if self._json:
            say_json({"saga": saga})
            return
        if (saga["run"], saga["status"]) != (before.get("run"), before.get("status")):
            say(printable(f"{saga['id']}: {saga['saga']} version {saga['version']} is {saga['status']}"))
        told = before.get("concerns", [])
        for line in sheets.concerns([one for one in saga["concerns"] if one not in told]):
            say(printable(f"  {line}"))
        if stands["waits"] != before.get("waits"):
            for line in wait_sheets.waits(saga, now=datetime.now(UTC)):
                say(printable(f"  {line}"))

    def end(self, saga: Json) -> None:
        if not self._json:
            say(sheets.ended(saga))


class Watch:
    """Of one saga id. If the saga goes on as another run, that one is followed."""

    def __init__(self, api: Api, id: str, teller: Teller) -> None:
        self._api = api
        self._id = id
        self._teller = teller
        self._run = ""
        self._after = 0

    async def until_closed(self, *, from_the_start: bool) -> Json:
        """The saga as it ended. Raises NoSuchSaga, CoordinatorUnreachable."""
        saga, pause = await self._api.saga(self._id), FIRST_PAUSE_SECONDS
        self._run, self._after = saga["run"], 0 if from_the_start else saga.get("history_rows", 0)
        while True:
            has_changed = await self._tell(saga)
            if saga["status"] in CLOSED:
                return saga
            pause = FIRST_PAUSE_SECONDS if has_changed else min(LONGEST_PAUSE_SECONDS, pause * 2)
            saga = await self._look(pause)

    async def _tell(self, saga: Json) -> bool:
        """Whether there were new rows. They are read after the saga: those of its end are among them."""
        if saga["run"] != self._run:
            self._run, self._after = saga["run"], 0
        found, next = False, self._after if saga.get("history_rows", self._after + 1) > self._after else None
        while next is not None:
            page = await self._api.history(self._id, run=self._run, after=next)
            for row in page["rows"]:
                self._teller.row(row)
                self._after, found = row["seq"], True
            next = page["next"]
        self._teller.saga(saga)
        return found

    async def _look(self, pause: float) -> Json:
        """After this time, or when it has closed. A coordinator that restarts is waited for."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(min(pause, FIRST_PAUSE_SECONDS))
        while True:
            try:
                return await self._api.saga(self._id, wait=max(0.0, pause - FIRST_PAUSE_SECONDS))
            except CoordinatorUnreachable:
                if loop.time() - began > RESTART_SECONDS:
                    raise
                await asyncio.sleep(RETRY_PAUSE_SECONDS)


async def run_watch(options: Namespace) -> Exit:
    teller = Teller(json=options.json)
    async with opened_api() as api:
        try:
            saga = await Watch(api, options.id, teller).until_closed(from_the_start=options.history)
        except NoSuchSaga as error:
            raise no_such_saga(options.id, error) from error
    teller.end(saga)
    return Exit.DONE if saga["status"] == "completed" else Exit.ENDED_OTHERWISE


def watch_arguments(place: ArgumentParser) -> None:
    place.add_argument("id", metavar="ID")
    place.add_argument("--history", action="store_true", help="begin with the first row of its history, not with now")
    json_argument(place, what="one JSON value a line instead of text")


SUBCOMMANDS: Final = (
    Subcommand(
        name="watch",
        about=(
            "Follows a saga until it has closed: each new row of its history, its status, what it waits for, and why "
            "it needs operator action. The exit code tells its end. 0: completed. 1: ended otherwise. 130: Ctrl-C; "
            "the saga goes on."
        ),
        examples={
            "sagabus watch ORD-1": "from now on",
            "sagabus watch ORD-1 --history --json": "from its start on, one JSON value a line",
        },
        arguments=watch_arguments,
        run=run_watch,
    ),
)

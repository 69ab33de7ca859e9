"""What people and scripts do with sagas, over the HTTP API: `start`, `list`, `show`. Verbs: `verbs`; events: `events`.

Without settings they find the coordinator of `sagabus dev` in the current directory.
"""

from __future__ import annotations

import asyncio
import codecs
import sys
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Any, Final

from sagabus.client.coordinator_api import (
    PAGE,
    CoordinatorApi,
    CoordinatorRefused,
    CoordinatorUnreachable,
    Json,
    NoSuchSaga,
)
from sagabus.client.settings import api_settings
from sagabus.commands import saga_arguments, sheets
from sagabus.commands.exported import export
from sagabus.commands.printable import printable, printable_json
from sagabus.commands.subcommand import Exit, Failed, Subcommand, complain, say, say_json
from sagabus.commands.widths import line_width
from sagabus.contracts.errors import MessageInvalid

_OTHER_ENCODINGS: Final = (
    ("UTF-32", codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    ("UTF-16", codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
)
"""With their byte order marks. That of UTF-32 begins as that of UTF-16 does."""

_NOT_CERTAIN: Final = (
    "not all is known that a saga with … (waits_complete: false) waits for, so it is listed: "
    "`sagabus show ID` tells whether a step waits for {service}"
)


BEGIN_SECONDS: Final = 2.0
"""That `start` waits for the saga to begin."""

_LATER: Final = "; it has not begun yet, `sagabus show {}` tells when it has"


async def run_start(options: Namespace) -> Exit:
    value = given(options.input)
    async with opened_api() as api:
        accepted = await api.start(options.saga, id=options.id, input=value, allow_unknown=options.allow_unknown)
        if ignored := accepted.get("ignored"):
            names = ", ".join(map(repr, ignored))
            complain(printable(f"{options.id}: the saga's input has no field {names}: what was given is ignored"))
        if options.wait:
            return await wait_for_end(api, options, value, accepted)
        later = "" if await _has_begun(api, options.id, accepted) else _LATER.format(quote(options.id))
        tell(options, accepted, f"{options.id}: accepted{later}")
        return Exit.DONE


async def _has_begun(api: CoordinatorApi, id: str, accepted: Json) -> bool:
    """So that what is typed next finds it. It is accepted all the same. Raises StartRefused."""
    try:
        return await api.begun(id, start=accepted["message_id"], within=BEGIN_SECONDS)
    except CoordinatorUnreachable:
        return False


async def run_list(options: Namespace) -> Exit:
    if options.limit < 1:
        raise Failed(Exit.USAGE, f"--limit {options.limit}: give a whole number from 1 on")
    async with opened_api() as api:
        sagas, cursor = await _pages(api, options)
    if options.json:
        say_json(sagas)
    else:
        for line in sheets.listed(sagas, now=datetime.now(UTC), width=line_width()):
            say(line)
    if options.service and any(not saga.get("waits_complete", True) for saga in sagas):
        complain(_NOT_CERTAIN.format(service=options.service))
    if cursor:
        complain(f"there are more: go on with --cursor {cursor}, narrow it down, or raise --limit")
    return Exit.DONE


async def _pages(api: CoordinatorApi, options: Namespace) -> tuple[list[Json], str | None]:
    """So many sagas, and where to go on. A page may hold fewer than are asked for, or none."""
    found: list[Json] = []
    cursor: str | None = options.cursor
    while len(found) < options.limit:
        page = await api.sagas(
            status=options.status, saga=options.saga, attention=options.attention or None, concern=options.concern,
            paused=options.paused or None, error=options.error, service=options.service, id_prefix=options.id_prefix,
            where=options.where, started_before=options.started_before, updated_before=options.updated_before,
            limit=min(PAGE, options.limit - len(found)), cursor=cursor,
        )  # fmt: skip
        found, cursor = found + page["sagas"], page["next"]
        if cursor is None:
            break
    return found, cursor


async def run_show(options: Namespace) -> Exit:
    async with opened_api() as api:
        try:
            saga = await api.saga(options.id)
            if options.export is not None:
                return await export(api, saga, options)
            steps = await all_pages(api.steps, saga, "steps")
            rows = await all_pages(api.history, saga, "rows") if options.history else []
        except NoSuchSaga as error:
            raise no_such_saga(options.id, error) from error
    if options.json:
        say_json({**saga, "steps": steps, **({"history": rows} if options.history else {})})
    else:
        for line in (*sheets.shown({**saga, "steps": steps}, now=datetime.now(UTC)), *sheets.told(rows)):
            say(line)
    return Exit.DONE


def no_such_saga(id: str, error: NoSuchSaga) -> Failed:
    """With what the coordinator knows of it: requests may be kept until it is started."""
    kept = error.kept_requests
    words = f"; requests that came for it, and are kept until it is started: {kept}" if kept else ""
    cure = f"ask again in a moment; `sagabus dead-letters list --saga {quote(id)}` has a start that was rejected"
    why = "it has not begun yet, was never started, or was deleted by retention"
    return Failed(Exit.NOT_FOUND, f"no saga {id}: {why}{words}; {cure}")


def given(text: str) -> Any:
    """JSON from standard input (`-`), from a file, or as it stands. Raises Failed."""
    from sagabus.contracts.json_value import decode_value  # a command without an input does not need it

    what = f"{text[:60]!r} is no file and no JSON"
    try:
        if text == "-":
            what = "what standard input gives is no JSON"
            return decode_value(_utf8(sys.stdin.buffer.read()))
        if not text.lstrip().startswith(("{", "[", '"')) and Path(text).is_file():
            what = f"the file {text!r} is no JSON"
            return decode_value(_utf8(Path(text).read_bytes()))
        if text.endswith(".json"):
            raise Failed(Exit.USAGE, f"there is no file {text!r}, in {Path.cwd()}")
        return decode_value(text.encode())
    except (MessageInvalid, OSError, ValueError) as error:
        raise Failed(Exit.USAGE, f"{what}: {error}") from error


def _utf8(data: bytes) -> bytes:
    """Without the byte order mark that some editors write. Raises ValueError for another encoding that has one."""
    for name, *marks in _OTHER_ENCODINGS:
        if data.startswith(tuple(marks)):
            raise ValueError(f"it is written in {name}: save it as UTF-8")
    return data.removeprefix(codecs.BOM_UTF8)


_CURES: Final = {
    "saga.unknown": ". If its definition is yet to be deployed, add --allow-unknown",
    "event.unknown": " To send it by this very name, add --exact",
    "event.unreadable": ". To send it as it is, add --exact",
}
"""By the code of a refusal: the option with which it is taken all the same."""


@asynccontextmanager
async def opened_api() -> AsyncIterator[CoordinatorApi]:
    """Of the settings, or of the host of this directory. What it raises is raised as Failed."""
    settings = api_settings()
    try:
        async with CoordinatorApi(settings.url, token=settings.token) as api:
            yield api
    except (CoordinatorRefused, CoordinatorUnreachable) as error:  # it holds words that came over the network
        cure = _CURES.get(error.code, "") if isinstance(error, CoordinatorRefused) else ""
        raise Failed(Exit(error.exit_code), printable(str(error)) + cure) from error


def tell(options: Namespace, value: Any, sentence: str) -> None:
    if options.json:
        say_json(value)
    else:
        say(sentence)


async def wait_for_end(api: CoordinatorApi, options: Namespace, input: Any, accepted: Mapping[str, Any]) -> Exit:
    """The end of the saga, told. 0 if it is what was asked for."""
    try:
        async with asyncio.timeout(options.timeout):
            start = accepted["message_id"] if options.subcommand.name == "start" else ""
            saga = await api.closed(options.id, start=start)
    except TimeoutError:
        complain(await _unfinished(api, options))
        return Exit.WAITED
    if input is not None and saga["input"] != input:
        complain(f"{options.id} was started before, with another input: {printable_json(saga['input'])}")
        return Exit.REFUSED
    tell(options, saga, sheets.ended(saga))
    wanted = "completed" if options.subcommand.name == "start" else "cancelled"
    return Exit.DONE if saga["status"] == wanted else Exit.ENDED_OTHERWISE


async def _unfinished(api: CoordinatorApi, options: Namespace) -> str:
    try:
        saga = await api.saga(options.id)
    except NoSuchSaga:
        return (
            f"{options.id} has not begun within {options.timeout:g} s: the start was rejected (then it is among the "
            "dead letters), or no coordinator has taken it yet"
        )
    attention = f", it needs operator action: {saga['attention']}" if saga["attention"] else ""
    return printable(f"{options.id} is {saga['status']} after {options.timeout:g} s{attention}; it goes on")


async def all_pages(read: Callable[..., Awaitable[Json]], saga: Json, what: str) -> list[Json]:
    """Of this run, page by page."""
    found: list[Json] = []
    after: int | None = 0
    while after is not None:
        page = await read(saga["id"], run=saga["run"], after=after)
        found += page[what]
        after = page["next"]
    return found


SUBCOMMANDS: Final = (
    Subcommand(
        name="start",
        about="Starts a saga. With --wait the exit code tells its end. 0: completed. 1: not completed. 124: not ended.",
        examples={
            "sagabus start order_processing --id ORD-1 --input order.json": "from a file",
            "sagabus start order_processing --id ORD-1 --input order.json --wait --timeout 10": "and wait for its end",
            """sagabus start expense_approval --id EXP-1 --input '{"expense_id": "EXP-1", "approver": "ann", """
            """"manager": "max"}'""": "from the command line",
        },
        arguments=saga_arguments.start_arguments,
        run=run_start,
    ),
    Subcommand(
        name="list",
        about="Lists sagas and what they wait for, the latest first. With --id-prefix they are sorted by id.",
        examples={
            "sagabus list": "the latest 50",
            "sagabus list --status compensating --attention --json": "those that are stuck in their undo, as JSON",
            "sagabus list --service payment --updated-before 10m": "those that have waited for payment for ten minutes",
            "sagabus list --where stage=waiting --where amount=120": "those with these attributes",
            "sagabus list --error out_of_stock --started-before 7d": "those with this error, a week old or older",
        },
        arguments=saga_arguments.list_arguments,
        run=run_list,
    ),
    Subcommand(
        name="show",
        about="Shows a saga: what it waits for, its steps, and how far its undo is.",
        examples={
            "sagabus show ORD-1": "how far it is",
            "sagabus show ORD-1 --history": "with all that has happened to it",
            "sagabus show ORD-1 --export histories/ORD-1.jsonl": "its history as a file, for `sagabus check`",
        },
        arguments=saga_arguments.show_arguments,
        run=run_show,
    ),
)

"""`health`: for the probes of whatever runs the services, where a container's image has no curl.

A coordinator is asked over HTTP. A participant has no address: where it was told to, it keeps a file, and says there
each second how it is. A file that has not been written lately is of a process that hangs or is gone.
"""

from __future__ import annotations

import asyncio
import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sagabus.client.settings import own_api_url
from sagabus.commands.subcommand import Exit, Failed, Subcommand, say, say_json
from sagabus.messaging.api_access import PREFIX
from sagabus.messaging.background import Supervisor

if TYPE_CHECKING:
    from httpx import Response

WRITING_PAUSE_SECONDS: Final = 1.0
"""Between two writings of the file."""

STALE_SECONDS: Final = 10.0
"""After which a file says nothing any more: a loop may be held up by a large turn, but not for so long."""

ANSWER_SECONDS: Final = 3.0
"""To wait for an answer."""


async def run_health(options: Namespace) -> Exit:
    why_not = _of_file(Path(options.file)) if options.file else await _of_coordinator()
    if options.json:
        say_json({"ready": not why_not, "reason": why_not or None})
    else:
        say(f"not ready: {why_not}" if why_not else "ready")
    return Exit.FOUND if why_not else Exit.DONE


@asynccontextmanager
async def told(file: Path | None, why_not: Callable[[], str]) -> AsyncIterator[None]:
    """Keep the file while inside; without one, nothing. Raises Failed where it cannot be written."""
    if file is None:
        yield
        return
    try:
        _write(file, why_not())
    except OSError as error:
        raise Failed(Exit.USAGE, f"--health-file {file} cannot be written: {error.strerror}") from error
    telling = Supervisor().spawn(_tell(file, why_not), name="the writing of the health file")
    try:
        yield
    finally:
        telling.cancel()
        file.unlink(missing_ok=True)  # noqa: ASYNC240    # a file of some bytes


async def _tell(file: Path, why_not: Callable[[], str]) -> None:
    while True:
        await asyncio.sleep(WRITING_PAUSE_SECONDS)
        with suppress(OSError):  # a full disk: the file gets old, and that says enough
            _write(file, why_not())


def _write(file: Path, reason: str) -> None:
    """In one step: a reader never sees half of it."""
    part = file.with_name(f".{file.name}.part")
    part.write_text(reason, encoding="utf-8")
    part.replace(file)


def _of_file(file: Path) -> str:
    """Raises Failed for a file that is not there or not kept any more."""
    try:
        reason, age = file.read_text(encoding="utf-8"), time.time() - file.stat().st_mtime
    except OSError as error:
        sentence = f"{file}: {error.strerror}; the service is gone, or was started without --health-file {file}"
        raise Failed(Exit.UNREACHABLE, sentence) from error
    if age > STALE_SECONDS:
        raise Failed(Exit.UNREACHABLE, f"{file} was written {age:.0f} s ago: the service hangs, or was killed")
    return reason


async def _of_coordinator() -> str:
    """Raises Failed where nobody answers."""
    answer = await asked_coordinator()
    if answer.is_success:
        return ""
    return reason_in(answer.text) or f"HTTP {answer.status_code}, not from a coordinator"


async def asked_coordinator() -> Response:
    """Its answer to GET /readyz. Raises Failed where nobody answers, or there is no address to ask at."""
    import httpx  # a tenth of a second, which a look at a file need not wait for

    from sagabus.client.coordinator_api import may_use_tls

    url = own_api_url()
    if url is None:
        raise Failed(Exit.USAGE, f"{PREFIX}HTTP=off: name the file of --health-file instead")
    try:
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS, verify=may_use_tls(url)) as client:
            return await client.get(f"{url}/readyz")
    except httpx.HTTPError as error:
        sentence = f"the coordinator at {url} is unreachable: {str(error) or type(error).__name__}"
        raise Failed(Exit.UNREACHABLE, sentence) from error


def reason_in(text: str) -> str:
    """Why a coordinator is not ready, by the body of its answer; empty for a body that is no coordinator's."""
    try:
        return str(json.loads(text)["reason"])
    except (ValueError, KeyError, TypeError):
        return ""


def _arguments(place: ArgumentParser) -> None:
    place.add_argument("file", nargs="?", metavar="FILE", help="what the service was given as --health-file")
    place.add_argument("--json", action="store_true", help="one JSON object")


SUBCOMMANDS: Final = (
    Subcommand(
        name="health",
        about=(
            "Asks whether a service is ready: connected, a member of its group, and owner of the shards that the group "
            "gave to it. A coordinator is asked at SAGABUS_URL, else SAGABUS_HTTP. Any service that was started with "
            "--health-file is asked through that file. Exit code 0: ready. 6: not ready, with the reason. 3: no answer."
        ),
        examples={
            "sagabus health": "the coordinator, as GET /readyz does",
            "sagabus health /tmp/health": "a service that was started with --health-file /tmp/health",
        },
        arguments=_arguments,
        run=run_health,
    ),
)  # fmt: skip

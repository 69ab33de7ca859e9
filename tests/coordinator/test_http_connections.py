"""Connections of the API: whoever only opens them takes nothing from the coordinator, nor from others who ask."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sagabus.coordinator.http import connections, serving

MOST = 5


class Held:
    """An application whose /held answers when it is let go, and / at once."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.under_way = 0

        async def held(_: Request) -> Response:
            self.under_way += 1
            await self.let_go.wait()
            return PlainTextResponse("held")

        async def prompt(_: Request) -> Response:
            return PlainTextResponse("prompt")

        self.app = Starlette(routes=[Route("/held", held), Route("/", prompt)])
        self.app.state.drain = self.let_go.set


@asynccontextmanager
async def opened(address: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def ask(address: str, path: str = "/") -> tuple[int, str]:
    async with httpx.AsyncClient(base_url=f"http://{address}") as client:
        answer = await client.get(path, timeout=30)
    return answer.status_code, answer.text


async def test_idle_connections_make_room_for_who_asks_the_longest_idle_first() -> None:
    async with serving(Held().app, ("127.0.0.1", 0), most=MOST) as address, AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(opened(address)) for _ in range(4 * MOST)]
        closed = [reader.read() for reader, _ in idle[: 3 * MOST]]
        assert await asyncio.wait_for(asyncio.gather(*closed), 30) == [b""] * (3 * MOST)
        assert await ask(address) == (200, "prompt")
        idle[-1][1].write(REQUEST)
        assert (await asyncio.wait_for(idle[-1][0].readline(), 30)).startswith(b"HTTP/1.1 200")


async def test_where_all_are_at_work_one_more_is_told_so() -> None:
    held = Held()
    async with serving(held.app, ("127.0.0.1", 0), most=MOST) as address:
        asked = [asyncio.create_task(ask(address, "/held")) for _ in range(MOST)]
        while held.under_way < MOST:  # noqa: ASYNC110    # the server's tasks are no event of ours
            await asyncio.sleep(0.01)
        status, text = await ask(address)
        assert (status, "coordinator.full" in text) == (503, True)
        held.let_go.set()
        assert await asyncio.gather(*asked) == [(200, "held")] * MOST


REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", REQUEST[:20]])
async def test_who_sends_no_head_in_time_is_closed_and_who_waits_for_an_answer_is_not(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    held = Held()
    async with serving(held.app, ("127.0.0.1", 0)) as address:
        asked = asyncio.create_task(ask(address, "/held"))
        while not held.under_way:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        async with opened(address) as (reader, writer):
            writer.write(sent)
            assert await asyncio.wait_for(reader.read(), 30) == b""
        assert not asked.done()
        held.let_go.set()
        assert await asked == (200, "held")


async def test_the_head_of_a_second_request_has_its_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Held().app, ("127.0.0.1", 0)) as address, opened(address) as (reader, writer):
        writer.write(REQUEST)
        await asyncio.wait_for(reader.readuntil(b"prompt"), 30)
        monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
        writer.write(REQUEST[:20])
        assert await asyncio.wait_for(reader.read(), 30) == b""


STARVED = """
import asyncio, resource, socket
from starlette.applications import Starlette
from sagabus.coordinator.http import serving

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
    app = Starlette()
    app.state.drain = lambda: None
    async with serving(app, ("127.0.0.1", 0)) as address:
        print(address, flush=True)
        await asyncio.to_thread(input)
        socket.socket().close()
        print("a descriptor is left", flush=True)

asyncio.run(main())
"""


async def test_idle_connections_leave_descriptors_for_the_rest_of_the_process() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARVED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        async with AsyncExitStack() as stack:
            for _ in range(400):
                await stack.enter_async_context(opened(address))
            assert (await ask(address, "/none"))[0] == 404
            said, complaints = process.communicate("\n", timeout=60)
    assert said == "a descriptor is left\n", complaints
    assert complaints.count("\n") < 50


def test_descriptors_that_have_run_out_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    quiet, logger = connections.RunOut(), logging.getLogger("asyncio")
    logger.addFilter(quiet)
    try:
        for _ in range(3):
            logger.error("socket.accept() out of system resource\nsocket: 7")
            logger.error("another")
    finally:
        logger.removeFilter(quiet)
    assert [record.getMessage().partition("\n")[0] for record in caplog.records] == [
        "socket.accept() out of system resource", "another", "another", "another",
    ]  # fmt: skip


def test_a_service_may_open_more_files_than_it_was_given() -> None:
    script = (
        "import resource as r; from sagabus.commands.descriptors import raise_descriptor_limit as more\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (200, 300)); more(); print(r.getrlimit(r.RLIMIT_NOFILE))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "(300, 300)\n"

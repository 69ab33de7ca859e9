"""docs/reference/http.md lists each address that the API has. `test_pages` compares the words."""

from __future__ import annotations

import re

from starlette.routing import Route

from sagabus.contracts.envelope import Message
from sagabus.coordinator.http import Closings, application
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.settings import Settings
from tests.docs import http_page


async def _publish(message: Message) -> None:
    raise AssertionError(message)


async def _why_not() -> str:
    return ""


def test_each_address_is_listed() -> None:
    app = application(
        database=Database("postgresql://nobody@localhost/nothing"), settings=Settings(http="off"), publish=_publish,
        closings=Closings(), why_not=_why_not,
    )  # fmt: skip
    routes = [route for route in app.routes if isinstance(route, Route)]
    there = {(method, route.path) for route in routes for method in (route.methods or set()) - {"HEAD"}}
    lines = [line for line in http_page.page().splitlines() if line.startswith(("GET ", "POST "))]
    listed = {(line.split()[0], path) for line in lines for path in re.findall(r"/[\w/{}]+", line.partition(" ?")[0])}
    assert listed == there

"""What the tests of participants share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.participants.service_fixture import ServiceFixture, opened
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="module")
def shop_database(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a database that the tests of one module share, one after the other."""
    with postgres.database() as url:
        yield url


@pytest.fixture
async def fixture(shop_database: str) -> AsyncIterator[ServiceFixture]:
    """The service `shop`, with nothing done yet."""
    async with opened(shop_database) as fixture:
        yield fixture

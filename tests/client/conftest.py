"""The shop in a process of its own, and a client that finds it by its run.json."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sagabus.client import SagaClient
from tests.support.dev_host import DevHost
from tests.support.folders import data_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    with data_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def host() -> Iterator[DevHost]:
    with data_folder() as folder, DevHost(folder) as host:
        yield host


@pytest.fixture
async def client(host: DevHost, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SagaClient]:
    monkeypatch.chdir(host.folder)
    async with SagaClient("embedded") as client:
        yield client

"""`sagabus list` says what is not certain."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sagabus.commands import saga_arguments, sagas
from tests.commands.test_watch import SENT, saga


class Api:
    """Lists these."""

    def __init__(self, *listed: Any) -> None:
        self._listed = list(listed)

    async def sagas(self, **_: Any) -> dict[str, Any]:
        return {"sagas": self._listed, "next": None}


def complaints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], *listed: Any
) -> str:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Api]:
        yield Api(*listed)

    monkeypatch.setattr(sagas, "opened_api", opened)
    parser = ArgumentParser()
    saga_arguments.list_arguments(parser)
    asyncio.run(sagas.run_list(parser.parse_args(arguments)))
    return capsys.readouterr().err


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_a_list_of_a_service_says_that_sagas_with_a_long_history_may_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], json: list[str]
) -> None:
    long = saga(waits=[], waits_complete=False)
    assert "whether a step waits for bank" in complaints(monkeypatch, capsys, ["--service", "bank", *json], long)
    assert complaints(monkeypatch, capsys, json, long) == ""
    assert complaints(monkeypatch, capsys, ["--service", "bank", *json], saga(waits=[SENT])) == ""

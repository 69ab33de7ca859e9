"""Attributes of a running saga as people and programs see them: `list --where`, `show`, the client."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from pydantic import BaseModel

from sagabus.client import NoSuchSaga, SagaClient
from sagabus.commands.main import main
from sagabus.commands.subcommand import Exit
from tests.support.conditions import blocking_until
from tests.support.dev_host import DevHost
from tests.support.folders import data_folder

MODULE = dedent('''
    """A saga that waits, and says for what."""

    from pydantic import BaseModel

    from sagabus.contracts import event
    from sagabus.coordinator import SagaContext, saga


    class Order(BaseModel):
        amount: int


    class Labels(BaseModel):
        stage: str = "new"
        amount: int | None = None


    paid = event("orders.paid", Order)


    @saga("labelled", attributes=Labels)
    async def labelled(ctx: SagaContext, order: Order) -> None:
        ctx.attribute(stage="waiting for payment", amount=order.amount)
        await ctx.event(paid)
        ctx.attribute(stage="paid")
''')


class Labels(BaseModel):
    stage: str
    amount: int


def test_h9_sagas_are_found_by_their_attributes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with data_folder() as folder:
        Path(folder, "labelled.py").write_text(MODULE)
        with DevHost(folder, "labelled"):
            monkeypatch.chdir(folder)
            for id, amount in (("L-1", 120), ("L-2", 7)):
                words = ["start", "labelled", "--id", id, "--input", json.dumps({"amount": amount})]
                assert main(words) == Exit.DONE
            waiting = ("--where", "stage=waiting for payment")
            assert found(capsys, *waiting) == ["L-2", "L-1"]
            assert found(capsys, *waiting, "--where", "amount=120") == ["L-1"]
            assert found(capsys, "--where", "stage=paid") == []
            assert main(["list", "--where", "stage"]) == Exit.REFUSED
            assert "give the name of an attribute and its value" in capsys.readouterr().err
            assert main(["show", "L-1"]) == Exit.DONE
            assert 'attributes: {"stage": "waiting for payment", "amount": 120}' in one_order(capsys.readouterr().out)
            asyncio.run(seen_by_a_client())
            assert main(["event", "L-1", "orders.paid", "--data", '{"amount": 1}']) == Exit.DONE
            capsys.readouterr()
            blocking_until(lambda: found(capsys, "--where", "stage=paid") == ["L-1"], what="it is paid")


def found(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    capsys.readouterr()
    assert main(["list", "--json", *words]) == Exit.DONE
    listed: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return [one["id"] for one in listed]


def one_order(text: str) -> str:
    return text.replace(
        '{"amount": 120, "stage": "waiting for payment"}', '{"stage": "waiting for payment", "amount": 120}'
    )


async def seen_by_a_client() -> None:
    async with SagaClient("embedded") as client:
        assert await client.saga("L-1").attributes() == {"stage": "waiting for payment", "amount": 120}
        assert await client.saga("L-1").attributes(Labels) == Labels(stage="waiting for payment", amount=120)
        with pytest.raises(NoSuchSaga):
            await client.saga("L-9").attributes()

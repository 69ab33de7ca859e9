"""docs/guide/waiting.md: its snippets stand in a program whose sagas do what the page says."""

from __future__ import annotations

import importlib.util
from functools import cache
from types import ModuleType

import pytest
from pydantic import BaseModel

from sagabus.coordinator.core.saga.effects import TimerKind
from tests.core.kit import Drive
from tests.support.processes import ROOT
from tests.support.transcripts import Block, Page

PAGE = Page((ROOT / "docs" / "guide" / "waiting.md").read_text())


@cache
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("waiting_example", ROOT / "examples" / "waiting.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def begun(name: str, **fields: object) -> Drive:
    order: BaseModel = program().Order(order="O-1", **fields)
    return Drive(getattr(program(), name)).start(order)


def happens(drive: Drive, name: str, **data: object) -> None:
    drive.event(getattr(program(), name), data)


@pytest.mark.parametrize("snippet", PAGE.of("python"), ids=lambda one: one.text.splitlines()[0])
def test_a_snippet_stands_in_its_file(snippet: Block) -> None:
    assert snippet.text in (ROOT / snippet.about).read_text()
    assert f"](../../{snippet.about})" in PAGE.text


def test_the_payment_of_this_order_within_five_minutes() -> None:
    drive = begun("payment")
    happens(drive, "paid", order="O-2", amount=1)
    happens(drive, "paid", order="O-1", amount=5)
    assert drive.result == {"total": 5}
    drive = begun("payment")
    assert drive.due == {"sleep 1": 300.0}
    drive.fire(TimerKind.SLEEP, 1)
    assert (drive.status, drive.error["code"]) == ("compensated", "not_paid")


def test_one_payment_after_the_other() -> None:
    drive = begun("instalments", price=5)
    for amount in (2, 2, 2):
        happens(drive, "paid", order="O-2", amount=100)
        happens(drive, "paid", order="O-1", amount=amount)
    assert drive.result == {"total": 6}


@pytest.mark.parametrize("parts", ["ABC", "CBA", "BAC"])
def test_all_of_several(parts: str) -> None:
    drive = begun("parcel")
    for part in parts:
        happens(drive, "packed", part=part, weight=ord(part))
    assert drive.result == {"total": sum(map(ord, "ABC"))}


def test_any_of_several() -> None:
    drive = begun("paid_or_withdrawn")
    happens(drive, "paid", order="O-1", amount=3)
    assert drive.result == {"total": 3}
    drive = begun("paid_or_withdrawn")
    happens(drive, "withdrawn", reason="changed my mind")
    assert (drive.error["code"], drive.error["message"]) == ("withdrawn", "changed my mind")

"""docs/guide/undo.md: its saga is run, and does what the page says."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from sagabus.coordinator.core.saga.history import Kind
from tests.core.kit import Drive
from tests.support.processes import ROOT
from tests.support.transcripts import Page

PAGE = Page((ROOT / "docs" / "guide" / "undo.md").read_text())


def snippet() -> dict[str, Any]:
    (block,) = PAGE.of("python")
    names: dict[str, Any] = {"__name__": "tests.docs.guide_undo"}
    exec(compile(block.text, "undo.md", "exec"), names)
    return names


def test_the_first_city_is_full_and_the_second_one_is_taken() -> None:
    names = snippet()
    booked: type[BaseModel] = names["Booking"]
    drive = Drive(names["holiday"]).start(names["Wish"](cities=["Kyoto", "Nara"]))
    done = []
    while not drive.state.is_closed:
        sent = drive.last.commands[-1]
        done.append(f"{sent.head.kind} {sent.head.activity}")
        if sent.head.kind == "undo":
            drive.undone(sent.head.step)
        elif sent.head.activity == "travel.book_hotel" and b"Kyoto" in sent.body:
            drive.refused(sent.head.step, "full")
        else:
            drive.completed(sent.head.step, booked(booking_id=str(sent.head.step)))
    assert drive.result == {"city": "Nara"}
    assert done == [
        "do travel.hold_car", "do travel.book_flight", "do travel.book_hotel", "undo travel.cancel_flight",
        "do travel.book_flight", "do travel.book_hotel", "undo travel.free_car", "do travel.hold_car",
        "do travel.print_tickets",
    ]  # fmt: skip
    assert [row.step for row in drive.rows if row.kind is Kind.UNDO] == [3, 2]

"""An event that a person names in part, or with a slip, gets its whole name, or is refused with it."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from sagabus.contracts import EventType, Service, event
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.http.event_names import UNKNOWN_EVENT, EventNames
from sagabus.coordinator.http.refusals import ApiError


class Fact(BaseModel):
    by: str


class contracts:  # noqa: N801    # stands for a module
    library = Service("library")
    reader_came = library.event("reader_came", Fact)
    book_lost = library.event("lost", Fact)


picked_up = event("picked_up", Fact)
card_lost = Service("cards").event("lost", Fact)


@saga("lending")
async def lending(ctx: SagaContext, fact: Fact) -> None:
    await ctx.event(contracts.reader_came)
    await picked(ctx)


async def picked(ctx: SagaContext) -> None:
    kinds: list[EventType[..., Fact]] = [picked_up, contracts.book_lost]
    await ctx.event(kinds[0])


@saga("cards")
async def cards(ctx: SagaContext, fact: Fact) -> None:
    await ctx.event(card_lost)


NAMES = EventNames([lending, cards])


def test_a_definition_knows_the_events_that_its_code_names() -> None:
    assert lending.events == {"library.reader_came", "library.lost", "picked_up"}
    assert cards.events == {"cards.lost"}


@pytest.mark.parametrize(
    ("given", "of", "whole"),
    [
        ("library.reader_came", "lending", "library.reader_came"),
        ("reader_came", "lending", "library.reader_came"),
        ("picked_up", "lending", "picked_up"),
        ("lost", "lending", "library.lost"),
        ("lost", "cards", "cards.lost"),
        ("reader_came", None, "library.reader_came"),
        ("something.else", "lending", "something.else"),
        ("lost", "unknown", "lost"),
    ],
)
def test_a_part_that_can_mean_one_event_alone_is_that_event(given: str, of: str | None, whole: str) -> None:
    assert NAMES.whole(given, saga=of) == whole


@pytest.mark.parametrize(
    ("given", "of", "meant"),
    [
        ("lost", None, "'cards.lost' or 'library.lost'"),
        ("reader_cme", "lending", "'library.reader_came'"),
        ("libary.reader_came", "lending", "'library.reader_came'"),
        ("shelf.picked_up", "lending", "'picked_up'"),
        ("the_library_of_the_town.picked_up", "lending", "'picked_up'"),
        ("the_library_of_the_town.pickd_up", None, "'picked_up'"),
    ],
)
def test_what_is_near_is_refused_with_the_right_name(given: str, of: str | None, meant: str) -> None:
    with pytest.raises(ApiError, match=f"did you mean {meant}\\?") as refused:
        NAMES.whole(given, saga=of)
    assert refused.value.detail.code == UNKNOWN_EVENT


def test_what_the_code_waits_for_now_counts_as_named() -> None:
    """By a name that the code has made itself."""
    assert NAMES.whole("reader_came", saga="lending", awaited=["reader_came"]) == "reader_came"
    assert NAMES.whole("done", saga="lending", awaited=["job-7.done"]) == "job-7.done"

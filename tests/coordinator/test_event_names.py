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


def reads(data: str, of: str | None, name: str = "library.lost") -> str:
    """Why the code here cannot read it; empty if it can, or knows nothing of it."""
    try:
        NAMES.check_data(name, b'{"type":"event","name":"x","data":%b}' % data.encode(), saga=of)
    except ApiError as error:
        return f"{error.status} {error}"
    return ""


@pytest.mark.parametrize("of", ["lending", None])
def test_data_that_the_sagas_code_cannot_read_is_refused_in_words(of: str | None) -> None:
    assert reads('{"by":"ann"}', of) == ""
    assert reads('{"by":7}', of) == "422 event library.lost: data.by: Input should be a valid string"
    assert reads("null", of).startswith("422 event library.lost: data: ")


def test_what_no_code_here_names_is_not_judged() -> None:
    assert reads("7", "cards") == ""
    assert reads("7", "not_here") == ""
    assert reads("7", "lending", "another") == ""


class LaterFact(BaseModel):
    who: str


lost_later = Service("library").event("lost", LaterFact)


@saga("lending", version=2)
async def lending_later(ctx: SagaContext, fact: Fact) -> None:
    await ctx.event(lost_later)


def test_data_that_one_version_can_read_is_taken() -> None:
    both = EventNames([lending, lending_later])
    for data in (b'{"who":"ann"}', b'{"by":"ann"}'):
        both.check_data("library.lost", b'{"data":%b}' % data, saga="lending")
    with pytest.raises(ApiError):
        both.check_data("library.lost", b'{"data":{}}', saga="lending")

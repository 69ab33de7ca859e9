"""Concerns: a kind and a number, stored as such; and what older releases stored is read as what it meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sagabus.coordinator.core.saga.concern import (
    MOST_STORED,
    Concern,
    ConcernKind,
    Concerns,
    concern_of,
    concerns_json,
    read_concerns,
)
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.forward import SILENCE_MICROSECONDS as LONG
from sagabus.coordinator.core.saga.history import Kind, Row
from tests.core.kit import Drive
from tests.core.shapes import sequential
from tests.core.situations import compensating, given_up
from tests.core.wire import an_input

STEP, UNDO, SETTLE = ConcernKind.STEP, ConcernKind.UNDO, ConcernKind.SETTLE


@pytest.mark.parametrize(
    ("name", "step", "concern"),
    [
        ("step 3", 3, Concern(STEP, 3)),
        ("undo of step 3 (stock.release)", 3, Concern(UNDO, 3)),
        ("settle of step 12", 12, Concern(SETTLE, 12)),
        ("parked", 0, Concern(ConcernKind.PARKED)),
        ("", 0, Concern(ConcernKind.RECORDS_LOST)),
        ("step", 3, Concern(STEP, 3)),
        ("records_lost", 0, Concern(ConcernKind.RECORDS_LOST)),
    ],
)
def test_a_notice_is_about_its_kind_and_number_however_it_was_written(name: str, step: int, concern: Concern) -> None:
    assert concern_of(Row(1, 1, Kind.NOTICE, step, name=name)) == concern


def test_a_block_of_an_older_release_has_no_kind() -> None:
    assert concern_of(Row(1, 1, Kind.BLOCKED, 7, name="")) == Concern(ConcernKind.BLOCKED)
    assert concern_of(Row(1, 1, Kind.BLOCKED, 7, name="spun")) == Concern(ConcernKind.SPUN)


@pytest.mark.parametrize(
    ("make", "old", "concern", "answer"),
    [
        (lambda: Drive(sequential).start(), "step 1", Concern(STEP, 1), Drive.completed),
        (compensating, "undo of step 1 (stock.release)", Concern(UNDO, 1), Drive.undone),
        (given_up, "settle of step 1", Concern(SETTLE, 1), Drive.never),
    ],
)
def test_a_stored_history_of_the_old_form_has_the_same_concerns_and_loses_them_alike(
    make: Callable[[], Drive], old: str, concern: Concern, answer: Callable[[Drive, int], str | None]
) -> None:
    drive = make()
    drive.now += LONG
    assert drive.fire(TimerKind.RESEND, 1) is None
    assert list(drive.state.concerns) == [concern]
    assert (drive.rows[-1].name, drive.rows[-1].step) == (concern.kind, 1), "its name is the code, its step the number"
    drive.rows[-1] = replace(drive.rows[-1], name=old)
    drive.reload()
    assert list(drive.state.concerns) == [concern]
    answer(drive, 1)
    assert not drive.state.concerns


def test_parked_and_released_in_a_stored_history() -> None:
    drive = Drive(sequential).start()
    drive.take(an_input(Kind.NOTICE, name="parked", payload=b"what it sends is parked"))
    drive.reload()
    assert list(drive.state.concerns) == [Concern(ConcernKind.PARKED)]
    drive.take(an_input(Kind.NOTICE, name="parked.released", payload=b"cured"))
    drive.reload()
    assert not drive.state.concerns


def test_concerns_are_stored_as_json_and_come_back() -> None:
    concerns = Concerns([(Concern(STEP, 3), 'nobody handles "it"'), (Concern(ConcernKind.PARKED), "parked")])
    stored = concerns_json(concerns)
    assert stored == (
        b'[{"kind":"step","number":3,"words":"nobody handles \\"it\\""},{"kind":"parked","number":0,"words":"parked"}]'
    )
    assert list(read_concerns(stored, attention="parked").items()) == list(concerns.items())


def test_what_older_and_later_releases_stored() -> None:
    assert read_concerns(None, attention=None) == {}
    assert read_concerns(None, attention="look") == {Concern(ConcernKind.OTHER): "look"}
    assert read_concerns(b'[{"kind":"of tomorrow","number":1,"words":"x"}]', attention="x") == {}


def test_the_concern_behind_the_latest_comes_to_the_front_again() -> None:
    drive = Drive(sequential).start()
    drive.take(an_input(Kind.NOTICE, name=ConcernKind.RECORDS_LOST, payload=b"first"))
    drive.take(an_input(Kind.NOTICE, name=ConcernKind.PARKED, payload=b"second"))
    assert drive.attention == "second"
    drive.take(an_input(Kind.NOTICE, name="parked.released"))
    assert (drive.attention, drive.last.told) == ("first", ["saga.attention"])


def test_of_many_concerns_the_latest_are_stored_and_the_others_counted() -> None:
    concerns = Concerns((Concern(STEP, number), "nobody") for number in range(1, 5_001))
    stored = read_concerns(concerns_json(concerns), attention=None)
    assert list(stored) == [
        Concern(ConcernKind.MORE, 5_000 - MOST_STORED),
        *(Concern(STEP, number) for number in range(5_001 - MOST_STORED, 5_001)),
    ]
    assert concerns_json(stored) == concerns_json(concerns), "known from its row alone, it is stored alike"
    stored.put(Concern(ConcernKind.BLOCKED), "no code")
    again = read_concerns(concerns_json(stored), attention=None)
    assert (next(iter(again)), next(reversed(again))) == (
        Concern(ConcernKind.MORE, 5_001 - MOST_STORED),
        Concern(ConcernKind.BLOCKED),
    )


def test_what_changed_since_they_were_kept_is_left_out_in_its_place() -> None:
    concerns = Concerns()
    for number in (1, 2, 3):
        concerns.put(Concern(STEP, number), "nobody")
    concerns.keep()
    concerns.put(Concern(STEP, 1), "other words")
    concerns.remove(Concern(STEP, 2))
    concerns.put(Concern(STEP, 4), "new")
    assert list(concerns) == [Concern(STEP, 3), Concern(STEP, 1), Concern(STEP, 4)]
    assert list(concerns.as_kept().items()) == [(Concern(STEP, number), "nobody") for number in (1, 2, 3)]
    concerns.keep()
    assert list(concerns.as_kept().items()) == list(concerns.items())

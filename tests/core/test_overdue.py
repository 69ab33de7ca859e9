"""What nobody answers for an hour is for a person to see, until it is answered."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sagabus.coordinator.core.saga.effects import TimerKey, TimerKind
from sagabus.coordinator.core.saga.forward import SILENCE_MICROSECONDS as LONG
from tests.core.kit import SECOND, Drive
from tests.core.shapes import sequential
from tests.core.situations import compensating, given_up

COPY = TimerKey(TimerKind.RESEND, 1)


def started() -> Drive:
    return Drive(sequential).start()


def wait(drive: Drive, microseconds: int) -> None:
    """Copies are sent all the time, and nobody answers."""
    until = drive.now + microseconds
    while drive.timers[COPY] <= until:
        assert drive.fire(TimerKind.RESEND, 1) is None
    drive.now = until


@pytest.mark.parametrize(
    ("make", "what", "answer"),
    [
        (started, "step 1 (stock.reserve)", Drive.completed),
        (started, "step 1 (stock.reserve)", Drive.refused),
        (compensating, "undo of step 1 (stock.release)", Drive.undone),
        (compensating, "undo of step 1 (stock.release)", Drive.undo_failed),
        (given_up, "settle of step 1 (stock.reserve)", Drive.settled),
        (given_up, "settle of step 1 (stock.reserve)", Drive.never),
    ],
)
def test_it_is_shown_after_an_hour_and_until_the_answer(
    make: Callable[[], Drive], what: str, answer: Callable[[Drive, int], str | None]
) -> None:
    drive = make()
    wait(drive, LONG - 60 * SECOND)
    assert drive.attention == ""
    wait(drive, 120 * SECOND)
    assert drive.attention.startswith(f"{what}: no answer for 60 min")
    assert "is stock deployed" in drive.attention
    answer(drive, 1)
    assert drive.attention == ""
    assert "saga.attention_cleared" in drive.last.told


def test_a_step_that_fails_after_an_hour_is_answered_and_has_failed_for_an_hour() -> None:
    drive = started()
    wait(drive, LONG + 60 * SECOND)
    drive.failed(1)
    assert drive.attention.startswith("step 1 (stock.reserve): it has failed for 1 h: sagabus.handler_error: ")
    drive.fire(TimerKind.RETRY, 1)
    drive.completed(1)
    assert drive.attention == ""


def test_it_is_told_once() -> None:
    drive = started()
    wait(drive, 5 * LONG)
    assert drive.kinds == ["started", "command 1", "notice 1"]
    assert [told for told in drive.all.told if told.startswith("saga.attention")] == ["saga.attention"]
    assert drive.due["resend 1"] <= 30, "copies go on"


def test_the_hour_begins_anew_with_each_attempt() -> None:
    drive = started()
    wait(drive, LONG - 60 * SECOND)
    drive.failed(1)
    drive.fire(TimerKind.RETRY, 1)
    wait(drive, LONG - 60 * SECOND)
    assert drive.attention == ""
    wait(drive, 120 * SECOND)
    assert "no answer for 60 min" in drive.attention


def test_another_reason_of_the_same_step_is_left_standing() -> None:
    drive = compensating()
    drive.undo_refused(1)
    before = drive.attention
    drive.fire(TimerKind.UNDO_RETRY, 1)
    wait(drive, 2 * LONG)
    assert drive.attention == before

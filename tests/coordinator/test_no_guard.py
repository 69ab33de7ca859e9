"""Where the guard is not entered, sagas are not looked at."""

from __future__ import annotations

from sagabus.coordinator.guard import guarded
from tests.coordinator.guarded_sagas import THINGS, stopped


def test_l14_a_guard_that_was_left_refuses_nothing() -> None:
    work, _ = THINGS["sleep"]
    with guarded():
        assert stopped(work, caught=False).attention
    assert stopped(work, caught=False).attention == ""

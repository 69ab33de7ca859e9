"""When a static member takes it that another process has its name, and for how long it stays out of the group."""

from __future__ import annotations

from sagabus.messaging.bus.twins import Twins


def losses(twins: Twins, *seconds: float) -> list[float | None]:
    return [twins.forgotten(at) for at in seconds]


def test_one_that_is_forgotten_now_and_then_has_no_twin() -> None:
    assert losses(Twins(), *(minute * 60.0 for minute in range(20))) == [None] * 20


def test_s14_the_pause_doubles_while_the_twin_stays() -> None:
    twins = Twins()
    pauses = [losses(twins, at, at + 1, at + 2)[-1] for at in (1000.0, 1030.0, 1070.0, 1130.0, 1200.0)]
    assert pauses == [10.0, 20.0, 40.0, 60.0, 60.0]


def test_s14_after_quiet_minutes_the_pause_is_the_first_one_again() -> None:
    twins = Twins()
    assert losses(twins, 1000, 1001, 1002)[-1] == 10.0
    assert losses(twins, 1030, 1031, 1032)[-1] == 20.0
    assert losses(twins, 9000, 9001, 9002)[-1] == 10.0

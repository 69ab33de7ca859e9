"""Each refused verb has words for people, beside its code: what is so, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from sagabus.contracts import ActivityTimedOut
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga import refusal
from sagabus.coordinator.core.saga.admission import CANCEL_REJECTED, CLOSED, denial
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Input, Kind
from sagabus.coordinator.core.saga.operator import NO_USE, NOT_PAUSED, OUTPUT_INVALID, PAUSED
from tests.core.kit import Drive
from tests.core.services import Order, Result, check, reserve
from tests.core.shapes import sequential, tidy
from tests.core.situations import compensating, of
from tests.core.wire import an_input


def asked(verb: str, step: int = 0, ref: str = "new") -> Input:
    if verb == "cancel":
        return an_input(Kind.CANCEL, ref=ref)
    return an_input(Kind.OPERATOR, step, name=verb, ref=ref, payload=b'{"output":{},"reason":"r"}')


def running() -> Drive:
    return Drive(sequential).start()


def paused_between_attempts() -> Drive:
    drive = running()
    drive.failed(1)
    drive.operate("pause", ref="first")
    return drive


def completed() -> Drive:
    drive = Drive(of(check)).start()
    drive.completed(1)
    return drive


def cancelled() -> Drive:
    drive = Drive(tidy).start()
    drive.cancel()
    return drive


def ended() -> Drive:
    """Its code has ended, and it waits until step 1 is settled."""

    @saga("saga")
    async def content(ctx: SagaContext, order: Order) -> Result:
        with suppress(ActivityTimedOut):
            await ctx.call(reserve(order=order.order), timeout=60)
        return Result(refs=[])

    drive = Drive(content).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    return drive


@pytest.mark.parametrize(
    ("make", "request_", "code", "words"),
    [
        (completed, asked("pause"), CLOSED, "saga O-1 has ended (completed)"),
        (completed, asked("complete", 1), CLOSED, "saga O-1 has ended (completed)"),
        (completed, asked("acknowledge"), NO_USE, "saga O-1 has nothing that can be acknowledged"),
        (completed, asked("acknowledge", 1), NO_USE, "step 1 of saga O-1 has nothing that can be acknowledged"),
        (completed, asked("cancel"), CANCEL_REJECTED, "saga O-1 has ended (completed)"),
        (compensating, asked("cancel"), CANCEL_REJECTED, "saga O-1 is being undone already"),
        (ended, asked("cancel"), CANCEL_REJECTED, "the end of saga O-1 is decided: it will be completed"),
        (cancelled, asked("cancel"), CANCEL_REJECTED, "saga O-1 is being cancelled already"),
        (running, asked("resume"), NOT_PAUSED, "saga O-1 is not paused"),
        (running, asked("retry", 7), NO_USE, "saga O-1 has no step 7: see `sagabus show O-1`"),
        (running, asked("retry", 1), NO_USE, "step 1 (stock.reserve) is sent: retry is for what is between two"),
        (compensating, asked("skip", 2), NO_USE, "step 2 (bank.charge) is failed: skip is for an undo"),
        (compensating, asked("complete", 1), NO_USE, "step 1 (stock.reserve) is completed, its undo is sent: complete"),
        (running, asked("complete", 1), OUTPUT_INVALID, "the output of stock.reserve: ref: Field required"),
        (paused_between_attempts, asked("pause"), PAUSED, "saga O-1 is paused already"),
        (paused_between_attempts, asked("retry", 1), PAUSED, "saga O-1 is paused and sends nothing, so retry has to"),
    ],
)  # fmt: skip
def test_u8_a_refused_verb_has_its_code_and_words(
    make: Callable[[], Drive], request_: Input, code: str, words: str
) -> None:
    drive = make()
    assert denial(drive.state, request_) == code
    assert refusal.words(drive.state, request_, code).startswith(words)


def test_a_verb_of_a_later_release_is_named_with_its_code() -> None:
    assert refusal.words(running().state, asked("explode"), "x.y") == "explode of saga O-1: x.y"

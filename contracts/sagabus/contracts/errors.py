"""What can go wrong, as types.

    SagabusError
      DeclarationError      your mistake: a contract, saga or handler that cannot work; raised when it is declared
      MessageInvalid        the other side's: bytes that cannot be understood; they become a dead letter
      ActivityError         a step did not give its output
        ActivityFailed      the participant said no, or the retries are used up
        ActivityTimedOut    no answer in time; whether it happened is settled by the coordinator
      Refused               a business rejection of yours: of a handler it ends the step, of a saga's code the saga

Errors of the world (Kafka or a database unreachable) are raised by `sagabus.messaging`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pydantic import JsonValue


class ExitCode(IntEnum):
    """What a command ends with when such an error ends it."""

    USAGE = 2
    """Wrong arguments, settings or declarations."""
    UNREACHABLE = 3
    """Kafka, the database or the coordinator."""
    NOT_FOUND = 4
    REFUSED = 5
    """Whoever was asked has understood, and declines."""
    OUR_FAULT = 70
    """What nobody foresaw (EX_SOFTWARE of sysexits.h)."""


class SagabusError(Exception):
    """The base of every error of ours."""

    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED


class DeclarationError(SagabusError):
    """A declaration that cannot work. The sentence names the thing, the value and the cure."""

    exit_code = ExitCode.USAGE


class MessageInvalid(SagabusError):
    """Bytes that cannot be read. `reason` is a code by which dead letters are counted; the message is for people."""

    exit_code = ExitCode.USAGE

    def __init__(self, reason: str, message: str, /) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class ActivityError(SagabusError):
    """A step did not give its output. activity, step, attempts are always set."""

    activity: str
    step: int
    attempts: int

    def __init__(self, sentence: str, /, *, activity: str, step: int, attempts: int) -> None:
        super().__init__(sentence)
        self.activity = activity
        self.step = step
        self.attempts = attempts


class ActivityFailed(ActivityError):
    """The participant refused (a business rejection), or the retry policy is used up.

    code is the participant's, `sagabus.handler_error` for an exception of a handler, or `sagabus.retries_exhausted`
    (then details["last"] is the last failure).
    """

    code: str
    message: str
    details: Mapping[str, JsonValue]

    def __init__(
        self, *, activity: str, step: int, attempts: int, code: str, message: str, details: Mapping[str, JsonValue]
    ) -> None:
        sentence = f"{activity} (step {step}, attempt {attempts}): {code}: {message}"
        super().__init__(sentence, activity=activity, step=step, attempts=attempts)
        self.code = code
        self.message = message
        self.details = details


class ActivityTimedOut(ActivityError):
    """No answer within `timeout`. The outcome is unknown; the undo is on its way. Not a TimeoutError."""

    def __init__(self, *, activity: str, step: int, attempts: int) -> None:
        sentence = f"{activity} (step {step}): no answer within its timeout, {attempts} attempt(s) made"
        super().__init__(sentence, activity=activity, step=step, attempts=attempts)


class Refused(SagabusError):
    """A business rejection: `raise Refused("over_budget", "it costs 90, the limit is 50", limit=50)`. Never retried.

    In a handler: what it has written is rolled back, and the saga gets `ActivityFailed` with this code, message and
    details. In a saga: what it has done is undone, and it ends as `compensated` with them: in its error, in its
    lifecycle event, in `SagaFailed`. code: 1 to 100 printable ASCII characters without spaces, not begun with
    `sagabus.`. details: what can be written as JSON; anything else is sent as its text.
    """

    code: str
    message: str
    details: Mapping[str, JsonValue]

    def __init__(self, code: str, message: str, /, **details: JsonValue) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.details = details

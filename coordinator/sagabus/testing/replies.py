"""What participants answer, from what a test gives: outputs, functions, refusals, failures."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from threading import Thread
from typing import Any, Final, TypeVar

from pydantic import BaseModel, JsonValue

from sagabus.contracts import Activity, Compensation, codec, names
from sagabus.contracts.replies import HANDLER_ERROR, Failure, ReplyKind
from sagabus.participants import Refused, TryAgain

T = TypeVar("T")

_VOID: Final = b"null"

Answer = BaseModel | None | Callable[[Any], Any]
"""An output; or a function, plain or async, that takes the command's input and returns it, or raises as a handler."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a participant stores and sends."""

    kind: ReplyKind
    body: bytes
    words: str = ""


def answered(activity: Activity[..., Any, Any], answer: Answer, input: BaseModel) -> Outcome:
    """Raises TypeError for an output of the wrong type: that is the test's mistake, and no failed attempt."""
    if isinstance(answer, BaseModel) or not callable(answer):
        return completed(activity, answer)
    try:
        output = called(answer, input)
    except Refused as refusal:
        return refused(activity, refusal.code, refusal.message, refusal.details)
    except TryAgain as again:
        return failed(again.code, again.message, again.details, again_after=again.after)
    except Exception as error:
        return failed(HANDLER_ERROR, f"{type(error).__name__}: {error}", {})
    return completed(activity, output)


def completed(activity: Activity[..., Any, Any], output: BaseModel | None) -> Outcome:
    """Raises TypeError."""
    model = activity.output_model
    if model is None and output is None:
        return Outcome(ReplyKind.COMPLETED, _VOID, "completes")
    if model is None or not isinstance(output, model):
        wanted, given = "None" if model is None else model.__name__, type(output).__name__
        raise TypeError(f"{activity.name} answers {wanted}; the test gave {given}")
    return Outcome(
        ReplyKind.COMPLETED, codec.encode_as(model, output, what=activity.name), f"completes with {output!r}"
    )


def refused(activity: Activity[..., Any, Any], code: str, message: str, details: Mapping[str, JsonValue]) -> Outcome:
    """Raises ValueError for a code that the activity may not refuse with."""
    if not names.is_code(code) or names.is_own_code(code):
        raise ValueError(f"{activity.name}: the refusal {code!r} is no code of yours: give {names.CODES}")
    if activity.refusals and code not in activity.refusals:
        declared = ", ".join(activity.refusals)
        raise ValueError(
            f"{activity.name} refuses with {declared}; the test gave {code!r}: declare it, or give another"
        )
    return Outcome(ReplyKind.REFUSED, _failure(code, message, details), f"refuses: {code}")


def failed(code: str, message: str, details: Mapping[str, JsonValue], *, again_after: float | None = None) -> Outcome:
    return Outcome(ReplyKind.FAILED, _failure(code, message, details, again_after), f"fails: {code}")


def _failure(code: str, message: str, details: Mapping[str, JsonValue], again_after: float | None = None) -> bytes:
    return codec.encode(Failure(code=code, message=message, details=details, again_after=again_after))


def completes_by_itself(activity: Activity[..., Any, Any]) -> bool:
    """There is one way only in which it may succeed: an undo, and what has no output."""
    return isinstance(activity, Compensation) or activity.output_model is None


def called(function: Callable[[Any], Any], input: BaseModel) -> Any:
    """What it returns. An async one runs to its end here, also where the test has an event loop of its own."""
    made = function(input)
    if not inspect.isawaitable(made):
        return made
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_awaited(made))
    return _in_thread(made)


async def _awaited(made: Awaitable[T]) -> T:
    return await made


def _in_thread(made: Awaitable[Any]) -> Any:
    results: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(asyncio.run(_awaited(made)))
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=run, name="handler of a test")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]

"""A handler, checked when it is declared: a mistake in a declaration must not wait for its first command."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import isfinite
from types import NoneType
from typing import Any, get_origin, get_type_hints

from pydantic import BaseModel

from sagabus.contracts.activity import Activity, Service
from sagabus.contracts.errors import DeclarationError
from sagabus.contracts.retry import Seconds, positive, seconds
from sagabus.participants.handlers.context import ActivityContext, ExternalContext


@dataclass(frozen=True, slots=True)
class Handler:
    """transaction: whether it runs within the transaction of its inbox row. time_limit: seconds; None for none."""

    activity: Activity[..., Any, Any]
    function: Callable[[Any, Any], Awaitable[Any]]
    transaction: bool
    time_limit: float | None = None

    @property
    def written_at(self) -> str:
        """The function, and where it stands: `reserve, shop/inventory.py:42`."""
        plain = inspect.unwrap(self.function)
        name, code = getattr(plain, "__qualname__", repr(plain)), getattr(plain, "__code__", None)
        return name if code is None else f"{name}, {code.co_filename}:{code.co_firstlineno}"


def belongs(service: Service, activity: object) -> Activity[..., Any, Any]:
    """Raises DeclarationError for what is no activity, and for another service's."""
    if not isinstance(activity, Activity):
        raise DeclarationError(f"handles({activity!r}): give an activity or a compensation, as declared with Service")
    if activity.service is not service and activity.service.name == service.name:
        raise DeclarationError(
            f"{activity.name} belongs to another Service({service.name!r}) than this participant: import the one that "
            "the activity was declared with"
        )
    if activity.service is not service:
        raise DeclarationError(
            f"{activity.name} does not belong to this participant, whose service is {service.name}: its commands "
            f"arrive on {activity.service.name}.commands; handle it in a Participant({activity.service.name})"
        )
    return activity


def checked(
    activity: Activity[..., Any, Any],
    function: Callable[..., Any],
    *,
    transaction: bool,
    time_limit: Seconds | None = None,
) -> Handler:
    """Raises DeclarationError for a handler that cannot work."""
    name = f"{activity.name}: handler {getattr(function, '__qualname__', repr(function))}"
    if not _is_async(function):
        raise DeclarationError(
            f"{name} is not async: declare it with `async def`, and run calls that block in a thread: "
            "`await asyncio.to_thread(blocking_call, …)`"
        )
    command, context = _parameters(name, function)
    hints = _hints(function)
    _check_models(name, activity, hints.get(command), hints.get("return", _UNKNOWN))
    _check_context(name, hints.get(context), transaction=transaction)
    return Handler(activity, function, transaction, _seconds(name, time_limit))


_UNKNOWN = object()


def _seconds(name: str, time_limit: Seconds | None) -> float | None:
    if time_limit is None:
        return None
    given: object = time_limit  # type checkers refuse a text; others find it here
    if not isinstance(given, int | float | timedelta):
        raise DeclarationError(f"{name}: time_limit={given!r}: give seconds, or a timedelta")
    limit = seconds(positive(time_limit, name, "time_limit"))
    if not isfinite(limit):
        raise DeclarationError(
            f"{name}: time_limit={time_limit}: give seconds, or omit it for a handler without a limit"
        )
    return limit


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _parameters(name: str, function: Callable[..., Any]) -> tuple[str, str]:
    """The names of the first two."""
    signature = inspect.signature(function)
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise DeclarationError(f"{name} takes {signature}: it is called with two arguments, command and ctx") from error
    names = [*signature.parameters, "", ""]
    return names[0], names[1]


def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Nothing where an annotation names what only type checkers see: they have checked it then."""
    try:
        return get_type_hints(function)
    except (NameError, TypeError):
        return {}


def _check_models(name: str, activity: Activity[..., Any, Any], input: Any, output: Any) -> None:
    declared: type[BaseModel] = activity.input
    if _is_class(input) and not issubclass(declared, input):
        raise DeclarationError(f"{name} takes a {input.__name__}, but the activity's input is {declared.__name__}")
    wanted: type[BaseModel | None] = NoneType if _is_void(activity) else activity.output
    if _is_class(output) and not issubclass(output, wanted):
        raise DeclarationError(f"{name} returns {_shown(output)}, but the activity's output is {_shown(wanted)}")


def _is_class(hint: Any) -> bool:
    """Others (unions, Any, type variables) are for type checkers to judge."""
    return isinstance(hint, type) and hint is not Any


def _is_void(activity: Activity[..., Any, Any]) -> bool:
    output: object = activity.output
    return output is None


def _shown(kind: type[Any]) -> str:
    return "None" if kind is NoneType else kind.__name__


def _check_context(name: str, context: Any, *, transaction: bool) -> None:
    kind = get_origin(context) or context
    if not isinstance(kind, type):
        return
    if transaction and issubclass(kind, ExternalContext):
        raise DeclarationError(
            f"{name} takes an ExternalContext: declare it as an external handler, with handles(…, transaction=False)"
        )
    if not transaction and issubclass(kind, ActivityContext):
        raise DeclarationError(
            f"{name} takes an ActivityContext, which an external handler (transaction=False) does not get: take an "
            "ExternalContext, and store what there is to store in `async with ctx.transaction() as session`"
        )

"""Services, their activities and compensations. Calling one builds a command; a context sends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from pydantic import BaseModel

from sagabus.contracts import declared, names, round_trip
from sagabus.contracts import refusals as codes
from sagabus.contracts.errors import DeclarationError
from sagabus.contracts.event_type import EventType
from sagabus.contracts.retry import ACTIVITY_RETRY, UNDO_RETRY, RetryPolicy, Seconds, policy, positive
from sagabus.contracts.undo_input import Fill, by_field, by_function

P = ParamSpec("P")
C = TypeVar("C", bound=BaseModel)
I = TypeVar("I", bound=BaseModel)  # noqa: E741
O = TypeVar("O", bound=BaseModel | None)  # noqa: E741
O_co = TypeVar("O_co", bound=BaseModel | None, covariant=True)


class Command(Generic[O_co]):
    """One filled-in command. Not awaitable on purpose: `await ctx.call(command)`."""

    __slots__ = ("contract", "input")

    def __init__(self, contract: Activity[..., Any, O_co], input: BaseModel) -> None:
        self.contract = contract
        self.input = input

    @property
    def activity(self) -> str:
        """The whole name: `inventory.reserve_inventory`."""
        return self.contract.name

    def __repr__(self) -> str:
        return f"Command({self.activity}, {self.input!r})"


class Activity(Generic[P, I, O]):
    """A named unit of work of a service. Made by `Service.activity`; compared by identity."""

    def __init__(
        self,
        service: Service,
        name: str,
        input: Callable[P, I],
        output: type[O] | None,
        *,
        refusals: tuple[str, ...] = (),
        timeout: Seconds | None = None,
        resend_after: Seconds | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        self.service = service
        self.name = f"{service.name}.{names.local_name(name, 'activity')}"
        self.input: type[I] = model_type(input, self.name)
        self.output: type[O] = cast("type[O]", output)
        self.output_model: type[BaseModel] | None = cast("type[BaseModel] | None", output)
        """The output's model; None for an activity without one."""
        self.refusals = codes.declared(self.name, refusals)
        self.timeout = None if timeout is None else positive(timeout, self.name, "timeout")
        self.resend_after = service.resend_after if resend_after is None else positive(resend_after, self.name)
        self.retry = policy(retry, self.name)
        self.compensation: Compensation[..., Any] | None = None
        self.fill: Fill | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Command[O]:
        """The fields of the input model, as keyword arguments. Raises pydantic.ValidationError."""
        return Command(self, self.input(*args, **kwargs))

    def of(self, input: I, /) -> Command[O]:
        """The same from a model that exists already."""
        if not isinstance(input, self.input):
            raise TypeError(f"{self.name}.of() takes a {self.input.__name__}, not a {type(input).__name__}")
        return Command(self, input)

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {self.name}>"


class Compensation(Activity[P, I, None]):
    """Undoes an activity of the same service. Sent only for a step known as completed; repeated until it succeeds."""


ActivityType = Activity
CompensationType = Compensation


class Service:
    """One participant: its name leads the names of its activities, events and topics."""

    def __init__(self, name: str, *, retry: RetryPolicy | None = None, resend_after: Seconds = 30.0) -> None:
        self.name = names.service_name(name)
        self.retry = policy(retry, self.name)
        self.resend_after = positive(resend_after, self.name)
        self.activities: dict[str, Activity[..., Any, Any]] = {}
        self.events: dict[str, EventType[..., Any]] = {}
        declared.declare(self)

    @overload
    def activity(
        self,
        name: str,
        input: Callable[P, I],
        output: None = None,
        *,
        compensation: Compensation[..., Any] | None = None,
        refusals: tuple[str, ...] = (),
        timeout: Seconds | None = None,
        resend_after: Seconds | None = None,
        retry: RetryPolicy | None = None,
    ) -> Activity[P, I, None]: ...
    @overload
    def activity(
        self,
        name: str,
        input: Callable[P, I],
        output: type[O],
        *,
        compensation: Compensation[..., Any] | None = None,
        refusals: tuple[str, ...] = (),
        timeout: Seconds | None = None,
        resend_after: Seconds | None = None,
        retry: RetryPolicy | None = None,
    ) -> Activity[P, I, O]: ...
    @overload
    def activity(
        self,
        name: str,
        input: Callable[P, I],
        output: type[O],
        *,
        compensation: Compensation[..., C],
        compensate_with: Callable[[I, O], C],
        refusals: tuple[str, ...] = (),
        timeout: Seconds | None = None,
        resend_after: Seconds | None = None,
        retry: RetryPolicy | None = None,
    ) -> Activity[P, I, O]: ...
    def activity(
        self,
        name: str,
        input: Callable[..., Any],
        output: Any = None,
        *,
        compensation: Compensation[..., Any] | None = None,
        compensate_with: Callable[[Any, Any], BaseModel] | None = None,
        refusals: tuple[str, ...] = (),
        timeout: Seconds | None = None,
        resend_after: Seconds | None = None,
        retry: RetryPolicy | None = None,
    ) -> Activity[..., Any, Any]:
        """Declare an activity. Left out, retry is 5 attempts, 1 s doubling to 30 s.

        refusals: the codes that handlers refuse with; a participant warns of another one. timeout: seconds until the
        saga gives the step up. resend_after: seconds until an unanswered command is sent again; that is no new attempt.
        Raises DeclarationError: name taken, a refusal that is no code, compensation of another service, undo input that
        cannot be filled.
        """
        if output is not None:
            output = model_type(output, f"{self.name}.{name}")
        made: Activity[..., Any, Any] = Activity(
            self, name, input, output, refusals=refusals, timeout=timeout, resend_after=resend_after, retry=retry
        )
        self._link(made, compensation, compensate_with)
        return self._added(made)

    def compensation(
        self, name: str, input: Callable[P, I], *, timeout: Seconds | None = None, retry: RetryPolicy | None = None
    ) -> Compensation[P, I]:
        """Declare what undoes an activity. It has no output. Left out, retry is without end, 1 s doubling to 5 min."""
        made: Compensation[P, I] = Compensation(self, name, input, None, timeout=timeout, retry=retry)
        self._added(made)
        return made

    def event(
        self, name: str, model: Callable[P, I], *, topic: str | None = None, key: str | None = None
    ) -> EventType[P, I]:
        """topic: `<service>.events` unless named. key: a field of the model; the saga id without one."""
        whole = f"{self.name}.{names.local_name(name, 'event')}"
        made = EventType(whole, model, topic=topic or names.service_events_topic(self.name), key=key)
        if whole in self.events:
            raise DeclarationError(f"event {whole} is declared twice; choose another name")
        self.events[whole] = made
        return made

    def _link(
        self,
        made: Activity[..., Any, Any],
        compensation: Compensation[..., Any] | None,
        compensate_with: Callable[[Any, Any], BaseModel] | None,
    ) -> None:
        if compensation is None:
            if compensate_with is not None:
                raise DeclarationError(f"{made.name}: compensate_with= without compensation=; name the compensation")
            return
        if not isinstance(compensation, Compensation):
            raise DeclarationError(f"{made.name}: compensation={compensation!r}: give what `.compensation(…)` returned")
        if compensation.service is not self:
            raise DeclarationError(
                f"{made.name}: {compensation.name} belongs to another service; a step is undone by the service that "
                "did it, which alone can say whether it happened"
            )
        made.compensation = compensation
        made.fill = (
            by_function(compensate_with)
            if compensate_with
            else by_field(made.name, compensation.input, made.input, made.output)
        )

    def _added(self, made: Activity[..., Any, Any]) -> Activity[..., Any, Any]:
        if made.name in self.activities:
            raise DeclarationError(f"activity {made.name} is declared twice; choose another name")
        self.activities[made.name] = made
        return made

    def __repr__(self) -> str:
        return f"Service({self.name!r})"


def retry_of(contract: Activity[..., Any, Any], call: RetryPolicy | None = None) -> RetryPolicy:
    """Call beats activity beats service. An undo is never given up, whatever its policy says. Raises DeclarationError
    for a call's that is no policy."""
    chosen = policy(call, contract.name) or contract.retry or contract.service.retry
    if isinstance(contract, Compensation):
        return (chosen or UNDO_RETRY).without_end()
    return chosen or ACTIVITY_RETRY


def model_type(candidate: Any, what: str) -> Any:
    """The same. Raises DeclarationError for what is no model, and for one that cannot read what it writes."""
    if not (isinstance(candidate, type) and issubclass(candidate, BaseModel)):
        raise DeclarationError(f"{what}: {candidate!r} is not a pydantic model; inputs, outputs and events are models")
    round_trip.check(candidate, what)
    return candidate

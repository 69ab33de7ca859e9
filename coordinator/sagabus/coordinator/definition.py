"""A saga's code with its name, version and models: made by `@saga`, run by the core."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Coroutine, Iterable
from functools import cached_property
from types import FunctionType
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast, overload

from pydantic import BaseModel, create_model

from sagabus.contracts import Activity, DeclarationError, EventType, SagaType, Seconds, Start, canonical, codec, names
from sagabus.contracts.activity import Service, model_type
from sagabus.contracts.retry import positive
from sagabus.coordinator.code_names import functions_named, objects_named
from sagabus.coordinator.context import SagaContext
from sagabus.coordinator.core.saga.fingerprint import fingerprint
from sagabus.coordinator.core.saga.program import Program
from sagabus.coordinator.route import Route, declared

P = ParamSpec("P")
I = TypeVar("I", bound=BaseModel)  # noqa: E741
O = TypeVar("O", bound=BaseModel | None)  # noqa: E741
E = TypeVar("E", bound=BaseModel)

LAST_VERSION: Final = 2**31 - 1
"""What an integer of PostgreSQL holds. Version 0 stands for a definition that was missing when its saga was started."""

Body = Callable[[SagaContext, I], Coroutine[Any, Any, O]]


class SagaDefinition(Generic[I, O]):
    """One version of a saga."""

    def __init__(
        self, contract: SagaType[..., I, O], body: Body[I, O], *, version: int, timeout: Seconds | None
    ) -> None:
        self.contract = contract
        self.name = contract.name
        self.version = version
        self.attributes = contract.attributes
        self.timeout = None if timeout is None else positive(timeout, f"saga {contract.name}", "timeout")
        self.routes: list[Route] = []
        """Events of outside topics that start one of these sagas, or wake it: see `on`."""
        self._body = body
        self._just_read: tuple[bytes, I] | None = None
        """What `input_hash` has read last, for the `run` that follows it: an input is validated once."""
        self.request: type[BaseModel] = create_model("StartBody", input=(contract.input, ...))
        """The model of a start request's body, as far as the saga reads it."""
        self.__doc__ = body.__doc__

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the saga's function, with the functions of its module that it names, and with Python's minor
        version (H7). Reads their sources: to be asked for while the files are those that were imported."""
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        return fingerprint(self.name, self.version, python, map(_source, functions_named(self._body)))

    @property
    def refusals(self) -> tuple[str, ...]:
        """As its contract declares them."""
        return self.contract.refusals

    @cached_property
    def services(self) -> frozenset[Service]:
        """Those whose activities its code names: it may name one that it never calls, and call one of another."""
        return frozenset(one.service for one in objects_named(self._body) if isinstance(one, Activity))

    @cached_property
    def event_types(self) -> tuple[EventType[..., Any], ...]:
        """The events that its code names, each once; it may wait for others."""
        return tuple(dict.fromkeys(one for one in objects_named(self._body) if isinstance(one, EventType)))

    @property
    def events(self) -> frozenset[str]:
        """Their whole names."""
        return frozenset(one.name for one in self.event_types)

    @property
    def written_at(self) -> str:
        """Where its function stands: file and line."""
        code = inspect.unwrap(self._body).__code__
        return f"{code.co_filename}:{code.co_firstlineno}"

    def __call__(self, **fields: Any) -> Start[O]:
        """A start request from the fields of the input model, as of a SagaType. Raises pydantic.ValidationError."""
        return self.contract(**fields)

    def of(self, input: I, /) -> Start[O]:
        """The same from a model that exists already."""
        return self.contract.of(input)

    def on(
        self,
        event: EventType[..., E],
        /,
        *,
        saga_id: Callable[[E], str | None],
        start: bool | Callable[[E], I] = False,
    ) -> None:
        """Let events of an outside topic start this saga, or wake it (H6). To be called once for an event.

        The coordinator reads `event.topic`. Each record of this event is told once to the saga that `saga_id` names,
        and records of one key in their order; None means that it is for no saga. Without `start` the saga gets it as an
        event, for `ctx.event`. With `start` the event starts the saga: True makes its data the input, a function makes
        the input of it. A second start with the same id and an equal input is the same saga.

        Both functions must give the same for the same data. What they raise makes a dead letter of the record. Raises
        DeclarationError.
        """
        self.routes.append(declared(self.name, self.contract.input, event, saga_id, start, self.routes))

    def read_input(self, request: bytes, *, checked_before: bool = False) -> I:
        """The input of a start request's body, validated. checked_before: see `codec.decode`. Raises MessageInvalid."""
        what = f"start of {self.name}"
        read: Any = codec.decode(self.request, request, what=what, checked_before=checked_before)
        return cast("I", read.input)

    def input_hash(self, request: bytes, *, checked_before: bool = False) -> bytes:
        """To know the input again by `canonical.same_input` (H2). Raises MessageInvalid."""
        input = self.read_input(request, checked_before=checked_before)
        self._just_read = request, input
        return canonical.digests(request, input)

    def run(self, program: Program, request: bytes) -> Coroutine[Any, Any, O]:
        read, self._just_read = self._just_read, None  # for one saga alone, which may change it
        input = read[1] if read is not None and read[0] is request else self.read_input(request)
        return self._body(SagaContext(program), input)

    def encode_result(self, result: BaseModel | None) -> bytes:
        output = self.contract.output_model
        if output is None and result is None:
            return b"null"
        if output is None or not isinstance(result, output):
            wanted = "None" if output is None else output.__name__
            raise TypeError(f"saga {self.name} returned {type(result).__name__}, declared is {wanted}")
        return codec.encode_as(output, result, what=f"the result of {self.name}")

    def __repr__(self) -> str:
        return f"<saga {self.name} version {self.version}>"


def distinct(definitions: Iterable[SagaDefinition[Any, Any]]) -> tuple[SagaDefinition[Any, Any], ...]:
    """Each once. Raises DeclarationError where two are of one name and version."""
    found: dict[tuple[str, int], SagaDefinition[Any, Any]] = {}
    for definition in definitions:
        other = found.setdefault((definition.name, definition.version), definition)
        if other is not definition:
            where = f"at {other.written_at} and at {definition.written_at}"
            cure = "give one of them another version, or another name"
            raise DeclarationError(f"{definition!r} is declared twice, {where}; {cure}")
    return tuple(found.values())


@overload
def saga(
    name: str, /, *, version: int = 1, timeout: Seconds | None = None, attributes: type[BaseModel] | None = None
) -> Callable[[Body[I, O]], SagaDefinition[I, O]]: ...
@overload
def saga(
    contract: SagaType[P, I, O], /, *, version: int = 1, timeout: Seconds | None = None
) -> Callable[[Body[I, O]], SagaDefinition[I, O]]: ...
def saga(
    named: Any, /, *, version: int = 1, timeout: Seconds | None = None, attributes: type[BaseModel] | None = None
) -> Any:
    """Declare a saga. By name alone, its input and result are read from the function's annotations.

    version: from 1. timeout: more than 0 seconds for the whole saga; then it is undone. attributes: the model of what
    its code sets with `ctx.attribute`; of a SagaType, which has its own, it is not given. Raises DeclarationError.
    """

    if not isinstance(named, SagaType | str):
        raise DeclarationError(f'@saga was given {_shown(named)}; give it a SagaType or a name: @saga("my_saga")')
    name = names.local_name(named, "saga") if isinstance(named, str) else named.name
    if attributes is not None and isinstance(named, SagaType):
        raise DeclarationError(f"saga {name}: attributes are declared with its SagaType: SagaType(…, attributes=…)")
    if type(version) is not int or not 1 <= version <= LAST_VERSION:
        raise DeclarationError(f"saga {name}: version={version!r}: give a whole number from 1 to {LAST_VERSION}")

    def declare(body: Body[Any, Any]) -> SagaDefinition[Any, Any]:
        if not inspect.iscoroutinefunction(body) or not hasattr(body, "__code__"):
            raise DeclarationError(f"saga {name}: {_shown(body)} is not an async function; write `async def {name}`")
        contract = named if isinstance(named, SagaType) else _contract(name, body, attributes)
        if isinstance(named, SagaType):
            _check_annotations(named, body)
        return SagaDefinition(contract, body, version=version, timeout=timeout)

    return declare


def _shown(value: object) -> str:
    return str(getattr(value, "__qualname__", None) or repr(value))


def _contract(name: str, body: Callable[..., Any], attributes: type[BaseModel] | None) -> SagaType[..., Any, Any]:
    try:
        hints = typing.get_type_hints(body)
    except NameError as error:
        raise DeclarationError(f"saga {name}: {error}; import what it annotates at the module's top") from error
    parameters = [p.name for p in inspect.signature(body).parameters.values()]
    if len(parameters) != 2 or parameters[1] not in hints or "return" not in hints:
        raise DeclarationError(f"saga {name}: annotate it as (ctx: SagaContext, input: Model) -> Model or None")
    output = hints["return"]
    result = None if output is type(None) else model_type(output, f"saga {name}")
    input = model_type(hints[parameters[1]], f"saga {name}")
    return SagaType(name, input, cast("Any", result), attributes=attributes)


def _check_annotations(contract: SagaType[..., Any, Any], body: Callable[..., Any]) -> None:
    """What the function's annotations say against its contract. Raises DeclarationError.

    Only models and None are compared: a union, a type variable or a name that is not there at run time says nothing.
    """
    try:
        hints = typing.get_type_hints(body)
    except Exception:  # names of `if TYPE_CHECKING`, or whatever an annotation does when it is evaluated
        return
    parameters = [*inspect.signature(body).parameters]
    taken = hints.get(parameters[1]) if len(parameters) > 1 else None
    if _is_model(taken) and not issubclass(contract.input, taken):
        raise DeclarationError(_differs(contract, "takes", contract.input, taken))
    returned, declared = hints.get("return"), contract.output_model or type(None)
    if (_is_model(returned) or returned is type(None)) and not issubclass(returned, declared):
        raise DeclarationError(_differs(contract, "returns", declared, returned))


def _is_model(annotation: Any) -> typing.TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _differs(contract: SagaType[..., Any, Any], verb: str, declared: type, annotated: type) -> str:
    said, other = ("None" if one is type(None) else one.__name__ for one in (declared, annotated))
    return (
        f"saga {contract.name}: its contract {verb} {said}, its function is annotated with {other}: make them the same"
    )


def _source(function: FunctionType) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # made in an interactive session, or compiled without sources
        return repr(function.__code__.co_code)

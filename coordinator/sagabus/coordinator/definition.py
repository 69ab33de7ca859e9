"""A saga's code with its name, version and models: made by `@saga`, run by the core."""

from __future__ import annotations

import hashlib
import inspect
import sys
import typing
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from pydantic import BaseModel, create_model

from sagabus.contracts import DeclarationError, SagaType, Seconds, Start, codec, names
from sagabus.contracts.activity import model_type
from sagabus.coordinator.context import SagaContext
from sagabus.coordinator.core.program import Program

P = ParamSpec("P")
I = TypeVar("I", bound=BaseModel)  # noqa: E741
O = TypeVar("O", bound=BaseModel | None)  # noqa: E741

Body = Callable[[SagaContext, I], Coroutine[Any, Any, O]]


class SagaDefinition(Generic[I, O]):
    """One version of a saga. `fingerprint` changes with its source and with Python's minor version (H7)."""

    def __init__(
        self, contract: SagaType[..., I, O], body: Body[I, O], *, version: int, timeout: Seconds | None
    ) -> None:
        self.contract = contract
        self.name = contract.name
        self.version = version
        self.timeout = timeout
        self.fingerprint = _fingerprint(body, version)
        self._body = body
        self._request: Any = create_model("StartBody", input=(contract.input, ...))
        self.__doc__ = body.__doc__

    def of(self, input: I, /) -> Start[O]:
        """A start request."""
        return self.contract.of(input)

    def read_input(self, request: bytes) -> I:
        """The input of a start request's body, validated. Raises MessageInvalid."""
        return cast("I", codec.decode(self._request, request, what=f"start of {self.name}").input)

    def input_hash(self, request: bytes) -> bytes:
        """Equal for inputs that are equal JSON values after validation (H2). Raises MessageInvalid."""
        return hashlib.sha256(codec.encode(self.read_input(request))).digest()

    def run(self, program: Program, request: bytes) -> Coroutine[Any, Any, O]:
        return self._body(SagaContext(program), self.read_input(request))

    def encode_result(self, result: BaseModel | None) -> bytes:
        output = self.contract.output_model
        if output is None and result is None:
            return b"null"
        if output is None or not isinstance(result, output):
            wanted = "None" if output is None else output.__name__
            raise TypeError(f"saga {self.name} returned {type(result).__name__}, declared is {wanted}")
        return codec.encode(result)

    def __repr__(self) -> str:
        return f"<saga {self.name} version {self.version}>"


@overload
def saga(
    name: str, /, *, version: int = 1, timeout: Seconds | None = None
) -> Callable[[Body[I, O]], SagaDefinition[I, O]]: ...
@overload
def saga(
    contract: SagaType[P, I, O], /, *, version: int = 1, timeout: Seconds | None = None
) -> Callable[[Body[I, O]], SagaDefinition[I, O]]: ...
def saga(named: Any, /, *, version: int = 1, timeout: Seconds | None = None) -> Any:
    """Declare a saga. By name alone, its input and result are read from the function's annotations.

    timeout: seconds for the whole saga; then it is undone. Raises DeclarationError.
    """

    def declare(body: Body[Any, Any]) -> SagaDefinition[Any, Any]:
        if not inspect.iscoroutinefunction(body):
            raise DeclarationError(f"saga {body.__name__} is not an async function; write `async def {body.__name__}`")
        contract = named if isinstance(named, SagaType) else _contract(named, body)
        return SagaDefinition(contract, body, version=version, timeout=timeout)

    return declare


def _contract(name: str, body: Callable[..., Any]) -> SagaType[..., Any, Any]:
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
    return SagaType(names.local_name(name, "saga"), input, cast("Any", result))


def _fingerprint(body: Callable[..., Any], version: int) -> str:
    try:
        source = inspect.getsource(body)
    except (OSError, TypeError):  # made in an interactive session, or compiled without sources
        source = repr(body.__code__.co_code)
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    return f"v{version}-py{sys.version_info.major}.{sys.version_info.minor}-{digest}"

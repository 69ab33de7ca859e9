"""What others need to know of a saga: its name, its input, its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, cast

from pydantic import BaseModel

from sagabus.contracts import names
from sagabus.contracts import refusals as codes
from sagabus.contracts.activity import model_type
from sagabus.contracts.attributes import attributes_type

P = ParamSpec("P")
I = TypeVar("I", bound=BaseModel)  # noqa: E741
O = TypeVar("O", bound=BaseModel | None)  # noqa: E741
O_co = TypeVar("O_co", bound=BaseModel | None, covariant=True)


class Start(Generic[O_co]):
    """One filled-in start request."""

    __slots__ = ("input", "saga")

    def __init__(self, saga: SagaType[..., Any, O_co], input: BaseModel) -> None:
        self.saga = saga
        self.input = input

    def __repr__(self) -> str:
        return f"Start({self.saga.name}, {self.input!r})"


class SagaType(Generic[P, I, O]):
    """A saga's name, input and result, and its attributes: all that a client needs to know of it.

    attributes: a model of at most 32 scalars that all have defaults, set by `ctx.attribute`; None for a saga without.
    refusals: the codes that its code refuses with (`raise Refused`); the log names another one, once. Raises
    DeclarationError.
    """

    def __init__(
        self,
        name: str,
        input: Callable[P, I],
        output: type[O],
        *,
        attributes: type[BaseModel] | None = None,
        refusals: tuple[str, ...] = (),
    ) -> None:
        self.name = names.local_name(name, "saga")
        self.input: type[I] = model_type(input, f"saga {name}")
        self.output: type[O] = output if output is None else cast("type[O]", model_type(output, f"saga {name}"))
        self.attributes = None if attributes is None else attributes_type(attributes, f"saga {name}")
        self.refusals = codes.declared(f"saga {name}", refusals)

    @property
    def output_model(self) -> type[BaseModel] | None:
        """The result's model; None for a saga without one."""
        return cast("type[BaseModel] | None", self.output)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Start[O]:
        """The fields of the input model, as keyword arguments. Raises pydantic.ValidationError."""
        return Start(self, self.input(*args, **kwargs))

    def of(self, input: I, /) -> Start[O]:
        """The same from a model that exists already."""
        if not isinstance(input, self.input):
            raise TypeError(f"{self.name}.of() takes a {self.input.__name__}, not a {type(input).__name__}")
        return Start(self, input)

    def __repr__(self) -> str:
        return f"<saga type {self.name}>"

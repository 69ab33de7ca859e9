"""The check of a contract's model, once for each; what is found is kept for as long as the process lives."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticUndefinedAnnotation

from sagabus.contracts.errors import DeclarationError
from sagabus.contracts.round_trip.findings import Doubts, Unfaithful
from sagabus.contracts.round_trip.inspection import Inspection
from sagabus.contracts.round_trip.samples import try_all


def check(model: type[BaseModel], what: str) -> None:
    """Raises DeclarationError for a model that cannot read what it writes. what: who declares it, for the sentence.

    One that names types which are not defined yet is looked at when it is first written.
    """
    if not _is_complete(model):
        return
    fault = _faults(model)
    if fault is not None:
        raise DeclarationError(f"{what}: {_sentence(fault)}")


def check_at_last(model: type[BaseModel], what: str) -> None:
    """As `check`, once all modules are imported: a type that is not defined by then never is.

    Raises DeclarationError.
    """
    try:
        model.model_rebuild()
    except PydanticUndefinedAnnotation as error:
        raise DeclarationError(
            f"{what}: {model.__name__} names the type {error.name}, which is not defined in {model.__module__}: import "
            "it there, at the module's top"
        ) from error
    check(model, what)


def _is_complete(model: type[BaseModel]) -> bool:
    return bool(model.__pydantic_complete__ or model.model_rebuild(raise_errors=False))


def _sentence(fault: Unfaithful) -> str:
    return f"{fault.path} would not come back from the wire as it was: {fault.reason}; {fault.cure}"


@cache
def _faults(model: type[BaseModel]) -> Unfaithful | None:
    try:
        try_all(_inspected(model))
    except Unfaithful as fault:
        return fault
    return None


@cache
def _inspected(model: type[BaseModel]) -> Inspection:
    schema: Any = model.__pydantic_core_schema__
    return Inspection(schema)


@cache
def doubts_of(model: type[BaseModel]) -> Doubts | None:
    """What may be lost of its values; None if nothing can be.

    Of a model that nobody has declared, such as a subclass of one that is, and that is unfaithful: anything.
    """
    try:
        return _inspected(model).doubts or None
    except Unfaithful:
        return Doubts(compare=True)

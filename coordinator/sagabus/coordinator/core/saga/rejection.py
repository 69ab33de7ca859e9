"""A saga's own `Refused`: the code, message and details with which it ends, as they may be written (U6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeGuard

from pydantic import JsonValue

from sagabus.contracts import names
from sagabus.contracts.errors import Refused
from sagabus.contracts.refusals import failure_body
from sagabus.contracts.replies import read_failure
from sagabus.contracts.words import plain, words_of
from sagabus.coordinator.core.saga.program import Code


class Rejection(NamedTuple):
    """faults: what of it is not as its author gave it, in words, for the log."""

    code: str
    message: str
    details: Mapping[str, JsonValue]
    faults: tuple[str, ...] = ()


def is_rejection(error: BaseException | None) -> TypeGuard[Refused]:
    """A subclass that has not called our `__init__` is an error like any other."""
    return isinstance(error, Refused) and {"code", "message", "details"} <= vars(error).keys()


def rejection_of(error: Refused) -> Rejection:
    """As near to what was given as may be: alike for a handler that refuses and for a saga that does."""
    given = words_of(error.code)
    code = names.fitting_code(given)
    read = read_failure(failure_body(code, plain(words_of(error.message)), _details(error)))
    faults = []
    if code != given:
        shown = plain(given, most=names.LONGEST_CODE)
        faults.append(f"it has refused with the code {shown!r}, which stands as {code}: give {names.CODES}")
    if _details(error) and not read.details:
        faults.append(f"it has refused with {code}, and its details are left out: they are too large")
    return Rejection(code, read.message, read.details, tuple(faults))


def _details(error: Refused) -> Mapping[str, JsonValue]:
    given: object = error.details  # a subclass may have set anything
    return given if isinstance(given, Mapping) else {"details": words_of(given)}


def undeclared(rejection: Rejection, code: Code | None) -> str:
    """What the log says, once; empty where it is declared. A saga type that declares none may refuse with any."""
    declared = () if code is None else code.refusals
    if not declared or code is None or rejection.code in declared:
        return ""
    return (
        f"{code.name} was refused with the code {rejection.code}, which its saga type does not declare: "
        f"{', '.join(declared)}. A client that looks for one of those does not find it. Correct the code, or add it to "
        "refusals="
    )

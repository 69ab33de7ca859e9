"""The models of contracts, looked at once all modules are imported: one may name a type that was defined later.

Else such a model is found to be wrong by the first message.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator

from pydantic import BaseModel

from sagabus.commands.origin import shown_line
from sagabus.commands.subcommand import Exit, Failed
from sagabus.contracts.activity import Activity, Service
from sagabus.contracts.errors import DeclarationError
from sagabus.contracts.event_type import EventType
from sagabus.contracts.round_trip import check_at_last
from sagabus.coordinator import SagaDefinition
from sagabus.messaging.service.participation import Participation


def check_models(objects: Iterable[object]) -> None:
    """Of these contracts, sagas and participants. Raises Failed, with the line of the model."""
    for model, what in (pair for value in objects for pair in _models(value)):
        try:
            check_at_last(model, what)
        except DeclarationError as error:
            raise Failed(Exit.USAGE, f"{_place(model)}{error}") from error


def _models(value: object) -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(value, SagaDefinition):
        yield value.contract.input, f"saga {value.name}"
        if value.contract.output_model is not None:
            yield value.contract.output_model, f"saga {value.name}"
    elif isinstance(value, Activity):
        yield value.input, value.name
        if value.output_model is not None:
            yield value.output_model, value.name
    elif isinstance(value, EventType):
        yield value.model, f"event {value.name}"
    elif isinstance(value, Service):
        for one in (*value.activities.values(), *value.events.values()):
            yield from _models(one)
    elif isinstance(value, Participation) and isinstance(value.service, Service):
        yield from _models(value.service)


def _place(model: type[BaseModel]) -> str:
    try:
        return f"{shown_line(inspect.getfile(model), inspect.getsourcelines(model)[1])}: "
    except (OSError, TypeError):  # made in an interactive session
        return ""

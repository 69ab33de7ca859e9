"""What was read once is what is read ever after: inputs, events and outputs, by way of history.

A model with a default factory or a validator of its author's may read the same bytes as another value tomorrow
(`contracts.canonical`). Where it would, a decision `read` holds the form that was read; a replay reads that one, and so
has the same values. Histories of older releases have no such rows, and are read as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from sagabus.contracts import canonical, codec
from sagabus.coordinator.core.saga.journal import Journal

M = TypeVar("M", bound=BaseModel)

INPUT: Final = "input"
EVENT: Final = "event"
OUTPUT: Final = "output"
"""Names of `read` rows. Their numbers: of an event the how manieth was read, of an output the step."""

Read = Callable[[str, int, type[BaseModel], bytes | None, str], tuple[Any, bytes | None]]
"""`read`, on a certain journal."""


def read(
    journal: Journal, name: str, number: int, model: type[M], raw: bytes | None, what: str
) -> tuple[M, bytes | None]:
    """The value, and the payload of the decision `read` that is to be made; None for none. Raises MessageInvalid."""
    if canonical.reads_alike(model):
        return codec.decode(model, raw, what=what), None
    if not journal.replaying:
        return canonical.read_for_good(model, raw, what=what)
    written = journal.was_read(name, number)
    if written is None:
        return codec.decode(model, raw, what=what), None
    return codec.decode(model, written.payload, what=what), written.payload

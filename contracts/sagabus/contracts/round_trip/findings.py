"""What is said of a model: what it loses for sure, what only its values can tell, and where."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Schema = Mapping[str, Any]


class Unfaithful(Exception):
    """A model that cannot read what it writes: where, why, and what to write instead."""

    def __init__(self, path: str, reason: str, cure: str) -> None:
        super().__init__(path, reason, cure)
        self.path = path
        self.reason = reason
        self.cure = cure


class Spot(NamedTuple):
    """A field of a model within the one that is inspected, or a whole model. config: of that model."""

    path: str
    schema: Schema
    config: Schema
    model: type[Any]
    field: str = ""
    """Its name; empty for the whole model."""


@dataclass(slots=True)
class Doubts:
    """What may be lost though the schema does not say so; `codec.encode` looks at the bytes for each."""

    compare: bool = False
    """Any value: it is read back and compared."""
    read: bool = False
    """A rule that an assignment or `model_construct` passes by: it is read back."""
    nulls: bool = False
    """A float that is not finite is written as null."""
    offsets: bool = False
    """An offset from UTC is written in whole minutes."""
    numbers: bool = False
    """A whole number may be larger than any double."""
    constants: bool = False
    """A Decimal that is no number is written as its name, which is not read."""

    models: list[type[Any]] = dataclasses.field(default_factory=list)
    """Models in its fields: of an instance of a subclass only their own fields are written."""

    def __bool__(self) -> bool:
        some = self.compare or self.read or self.nulls or self.offsets or self.numbers or self.constants
        return some or bool(self.models)

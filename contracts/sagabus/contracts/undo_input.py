"""The input of a compensation, filled from the step that it undoes.

By default every field is taken by name *and* type from the step's output, then from its input. What cannot be filled is
refused when the activity is declared: an undo must never be the first to find out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from sagabus.contracts.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Fill:
    """(the step's input, its output) -> the compensation's input. takes_input: it looks at the step's input; where it
    does not, any will do."""

    make: Callable[[Any, Any], BaseModel]
    takes_input: bool = True

    def __call__(self, input: BaseModel, output: BaseModel | None) -> BaseModel:
        return self.make(input, output)


_OUTPUT: Final = "output"
_INPUT: Final = "input"


def by_field(activity: str, wanted: type[BaseModel], input: type[BaseModel], output: type[BaseModel] | None) -> Fill:
    """Raises DeclarationError when a required field stands in neither model with the same type."""
    sources = {name: _source(name, wanted, input, output) for name in wanted.model_fields}
    missing = [name for name, at in sources.items() if at is None and wanted.model_fields[name].is_required()]
    if missing:
        raise DeclarationError(
            f"{activity}: {wanted.__name__}.{', '.join(missing)} cannot be filled: no field of that name and type in "
            f"{' or '.join(m.__name__ for m in (output, input) if m)}; add it, or declare compensate_with="
        )
    plan = [(name, at == _OUTPUT) for name, at in sources.items() if at is not None]
    return _filler(wanted, plan)


def _filler(wanted: type[BaseModel], plan: list[tuple[str, bool]]) -> Fill:
    def fill(input: BaseModel, output: BaseModel | None) -> BaseModel:
        values = {name: getattr(output if from_output else input, name) for name, from_output in plan}
        made: BaseModel = wanted.__pydantic_validator__.validate_python(values, by_alias=False, by_name=True)
        return made

    return Fill(fill, takes_input=not all(from_output for _, from_output in plan))


def by_function(function: Callable[[Any, Any], BaseModel]) -> Fill:
    return Fill(function)


def _source(name: str, wanted: type[BaseModel], input: type[BaseModel], output: type[BaseModel] | None) -> str | None:
    kind = wanted.model_fields[name].annotation
    for place, model in ((_OUTPUT, output), (_INPUT, input)):
        if model is not None and name in model.model_fields and model.model_fields[name].annotation == kind:
            return place
    return None

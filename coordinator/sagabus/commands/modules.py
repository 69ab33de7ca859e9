"""Finds what modules define: sagas, participants, contracts. They are imported, from the current directory too."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from sagabus.commands.subcommand import Exit, Failed
from sagabus.contracts.activity import Activity, Service
from sagabus.coordinator import SagaDefinition
from sagabus.messaging.service.participation import Participation

T = TypeVar("T")

Definition = SagaDefinition[Any, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """Each object once, in the order of the modules and of their lines."""

    definitions: Sequence[Definition]
    participants: Sequence[Participation]


def find(names: Iterable[str]) -> Found:
    """names: MODULE, or MODULE:OBJECT for one object of it. Raises Failed."""
    objects = [value for name in names for value in _objects(name)]
    sagas = [value for value in objects if isinstance(value, SagaDefinition)]
    participants = [value for value in objects if _takes_part(value)]
    return Found(_distinct(sagas), _distinct(participants))


def definitions(names: Iterable[str]) -> Sequence[Definition]:
    """Raises Failed where there is none."""
    names = [*names]
    found = find(names).definitions
    if not found:
        raise Failed(Exit.USAGE, f"no saga in {', '.join(names)}: define one with @saga at the module's top")
    return found


def participants(names: Iterable[str]) -> Sequence[Participation]:
    """Raises Failed where there is none."""
    names = [*names]
    found = find(names).participants
    if not found:
        raise Failed(Exit.USAGE, f"no participant in {', '.join(names)}: make a Participant(…) at the module's top")
    return found


def services(names: Iterable[str], *, required: bool = True) -> Sequence[Service]:
    """Every service that a contract or a participant of these modules names. Raises Failed where one is required."""
    names = [*names]
    found: dict[str, Service] = {}
    for value in (value for name in names for value in _objects(name)):
        service = value if isinstance(value, Service) else getattr(value, "service", None)
        if isinstance(value, Service | Activity | Participation) and isinstance(service, Service):
            found[service.name] = service
    if required and not found:
        raise Failed(Exit.USAGE, f"no service in {', '.join(names)}: name the module of your contracts")
    return [*found.values()]


def _takes_part(value: object) -> TypeGuard[Participation]:
    """An object that has any attribute one asks for, as SQLAlchemy's `func` does, is none."""
    return isinstance(value, Participation) and isinstance(value.service, Service)


def _distinct(objects: Iterable[T]) -> list[T]:
    return [*{id(value): value for value in objects}.values()]


def _objects(name: str) -> Iterable[object]:
    module_name, _, attribute = name.partition(":")
    module = _imported(module_name)
    if not attribute:
        return [*vars(module).values()]
    try:
        return [getattr(module, attribute)]
    except AttributeError:
        raise Failed(Exit.USAGE, f"module {module_name} has no {attribute}") from None


def _imported(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise Failed(Exit.USAGE, _missing(name)) from None
        raise _broken(name, error) from error
    except Exception as error:
        raise _broken(name, error) from error


def _missing(name: str) -> str:
    cure = ""
    if name.endswith(".py") or "/" in name:
        guess = name.removesuffix(".py").strip("./").replace("/", ".")
        cure = f"; give the name of a module, as in an import: {guess}"
    return f"there is no module {name}, in the current directory neither{cure}"


def _broken(name: str, error: Exception) -> Failed:
    """With the place in one line: a traceback would be mostly import machinery."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return Failed(Exit.USAGE, f"module {name} cannot be imported: {type(error).__name__}: {error}{place}")

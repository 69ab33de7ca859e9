"""Finds what modules define: sagas, participants, contracts. They are imported, from the current directory too."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from sagabus.commands.declared_models import check_models
from sagabus.commands.nearest import did_you_mean, nearest
from sagabus.commands.origin import origin
from sagabus.commands.subcommand import Exit, Failed
from sagabus.contracts.activity import Activity, Service
from sagabus.contracts.errors import SagabusError
from sagabus.coordinator import SagaDefinition
from sagabus.coordinator.definition import distinct
from sagabus.messaging.service.participation import Participation

T = TypeVar("T")

Definition = SagaDefinition[Any, Any]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """Each object once, in the order of the modules and of their lines."""

    definitions: Sequence[Definition]
    participants: Sequence[Participation]


def find(names: Iterable[str]) -> Found:
    """names: MODULE, or MODULE:OBJECT for one object of it. Raises Failed."""
    names = [*names]
    objects = [value for name in names for value in _objects(name)]
    check_models(objects)
    sagas = [value for value in objects if isinstance(value, SagaDefinition)]
    participants = _distinct(value for value in objects if _takes_part(value))
    twice = [name for name, count in Counter(one.service.name for one in participants).items() if count > 1]
    if twice:
        cure = "a process has one for each service: give it all handlers, or name one of them, as MODULE:OBJECT"
        raise Failed(Exit.USAGE, f"several participants of {', '.join(twice)} in {', '.join(names)}; {cure}")
    return Found(_distinct(sagas), participants)


def objects(names: Iterable[str]) -> Sequence[object]:
    """All that these modules define, or import. Raises Failed."""
    return [value for name in names for value in _objects(name)]


def definitions(names: Iterable[str]) -> Sequence[Definition]:
    """Raises Failed where there is none, DeclarationError where two are of one name and version."""
    names = [*names]
    found = find(names).definitions
    if not found:
        raise Failed(Exit.USAGE, f"no saga in {', '.join(names)}: define one with @saga at the module's top")
    return distinct(found)


def participants(names: Iterable[str]) -> Sequence[Participation]:
    """Raises Failed where there is none."""
    names = [*names]
    found = find(names).participants
    if not found:
        raise Failed(Exit.USAGE, f"no participant in {', '.join(names)}: make a Participant(…) at the module's top")
    return found


def services(names: Iterable[str], *, required: bool = True) -> Sequence[Service]:
    """Every service that a contract or a participant of these modules names.

    Raises Failed where one is required, and where there is no saga either, which could do without."""
    names = [*names]
    found: dict[str, Service] = {}
    objects = [value for name in names for value in _objects(name)]
    check_models(objects)
    for value in objects:
        service = value if isinstance(value, Service) else getattr(value, "service", None)
        if isinstance(value, Service | Activity | Participation) and isinstance(service, Service):
            found[service.name] = service
    if required and not found and not any(isinstance(value, SagaDefinition) for value in objects):
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
        meant = did_you_mean(nearest(attribute, _objects_of_use(module), {}))
        raise Failed(Exit.USAGE, f"module {module_name} has no {attribute}{meant}") from None


def _objects_of_use(module: Any) -> Collection[str]:
    """Names of what a command can be given of it."""
    return [name for name, value in vars(module).items() if isinstance(value, SagaDefinition) or _takes_part(value)]


def _imported(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise Failed(Exit.USAGE, _missing(name, error.name)) from None
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _missing(name: str, part: str) -> str:
    """part: of the name, up to what is not there."""
    cure = did_you_mean([f"{one}{name.removeprefix(part)}" for one in nearest(part, _beside(part), {})])
    if name.endswith(".py") or "/" in name:
        guess = name.removesuffix(".py").strip("./").replace("/", ".")
        cure = f"; give the name of a module, as in an import: {guess}"
    return f"there is no module {name}, neither installed nor in the current directory{cure}"


def _beside(name: str) -> Collection[str]:
    """Modules of the same package, or of the current directory."""
    package = name.rpartition(".")[0]
    places = [str(Path.cwd())] if not package else getattr(sys.modules.get(package), "__path__", [])
    before = f"{package}." if package else ""
    return [one.name for one in pkgutil.iter_modules(places, before)]


def _broken(name: str, error: BaseException) -> Failed:
    """With the author's line. The traceback, mostly import machinery and our own inside, is there at level debug."""
    logger.debug("the import of %s, in full:", name, exc_info=error)
    place = origin(error)
    if isinstance(error, SagabusError):
        return Failed(Exit.USAGE, f"{place or f'module {name}'}: {error}")
    if isinstance(error, SystemExit):
        cure = 'put what is to run under `if __name__ == "__main__":`'
        return Failed(Exit.USAGE, f"module {name} ends the process when it is imported ({place}): {cure}")
    where = f" ({place})" if place else ""
    return Failed(Exit.USAGE, f"module {name} cannot be imported: {type(error).__name__}: {error}{where}")

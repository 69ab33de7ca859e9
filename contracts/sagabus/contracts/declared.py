"""The services that this process has declared, for whoever has only the name of an activity.

Two contracts may bear one name, such as an old and a new one that are both imported. Nothing here keeps a service
alive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from sagabus.contracts.activity import Activity, Service

_SERVICES: dict[str, list[ref[Service]]] = {}
"""By name, in the order in which they were declared."""


def declare(service: Service) -> None:
    known = _SERVICES.setdefault(service.name, [])
    known[:] = [one for one in known if one() is not None]
    known.append(ref(service))


def activities(name: str) -> list[Activity[..., Any, Any]]:
    """All of this whole name, the one that was declared last first."""
    services = [one() for one in reversed(_SERVICES.get(name.partition(".")[0], ()))]
    return [one.activities[name] for one in services if one is not None and name in one.activities]

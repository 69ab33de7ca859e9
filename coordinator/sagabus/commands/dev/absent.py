"""Services that the sagas call and that nobody in this process serves: their commands wait in a topic.

No error: a participant may run elsewhere. But it is the first mistake that everybody makes, and nothing fails by it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Final

from sagabus.commands.dev.whereabouts import participant_of
from sagabus.commands.modules import Definition
from sagabus.contracts import names

logger = logging.getLogger(__name__)

COMMANDS: Final = names.commands_topic("")


class Absent:
    """Each service is told once. present: the services that this process serves. modules: as they were given."""

    def __init__(self, definitions: Sequence[Definition], present: Collection[str], modules: Sequence[str]) -> None:
        self._told = set(present)
        self._modules = modules
        self._callers: dict[str, list[str]] = {}
        """Names of sagas, by the service that their code names."""
        for one in definitions:
            for service in sorted({service.name for service in one.services}):
                self._callers.setdefault(service, []).append(one.name)

    def at_start(self) -> Sequence[str]:
        """A sentence about each service that the code of a saga names."""
        untold = [(service, sagas) for service, sagas in self._callers.items() if service not in self._told]
        return [self._sentence(service, ", ".join(sagas)) for service, sagas in untold]

    def topic_appears(self, topic: str) -> None:
        """The first command goes to a service that no code names: it is told in the log."""
        service = topic.removesuffix(COMMANDS)
        if topic.endswith(COMMANDS) and service not in self._told:
            logger.warning("%s", self._sentence(service, "a saga"))

    def _sentence(self, service: str, who: str) -> str:
        self._told.add(service)
        module = participant_of(service, self._modules) or f"the module with Participant({service})"
        return (
            f"{who} calls {service}, which nobody serves here: its commands wait in the topic {service}{COMMANDS}. "
            f"Add {module} to the command line, or run it elsewhere"
        )

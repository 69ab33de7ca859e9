"""The definitions that this process runs, and a word in the log about those that it lacks."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from sagabus.contracts import codec
from sagabus.coordinator.definition import SagaDefinition
from sagabus.coordinator.shard.identity import ProcessIdentity

logger = logging.getLogger(__name__)


class Definitions:
    """Of a name the highest version serves new sagas."""

    def __init__(
        self,
        definitions: Iterable[SagaDefinition[Any, Any]],
        *,
        namespace: str = "sagabus",
        identity: ProcessIdentity | None = None,
    ) -> None:
        self.identity = identity or ProcessIdentity.of_this_process()
        self._namespace = namespace
        self._all: dict[tuple[str, int], SagaDefinition[Any, Any]] = {}
        self._newest: dict[str, SagaDefinition[Any, Any]] = {}
        self._missing: set[tuple[str, int]] = set()
        self.fingerprints: list[str] = []
        """Of all of them."""
        for definition in sorted(definitions, key=lambda each: each.version):
            self._all[definition.name, definition.version] = self._newest[definition.name] = definition
            self.fingerprints.append(definition.fingerprint)  # its source is read now, as it was imported
            logger.debug("%r is %s", definition, definition.fingerprint)

    def newest(self, name: str) -> SagaDefinition[Any, Any] | None:
        """For a new saga. One that is missing is named in the log, once."""
        return self._found(self._newest.get(name), name, 0)

    def of(self, name: str, version: int) -> SagaDefinition[Any, Any] | None:
        """The version under which a saga was started; version 0 waits for its definition and takes the newest.

        One that is missing is named in the log, once.
        """
        found = self._newest.get(name) if version == 0 else self._all.get((name, version))
        return self._found(found, name, version)

    def encoded(self) -> bytes:
        """JSON: [{"name": …, "version": …}]."""
        return codec.encode_value([{"name": name, "version": version} for name, version in sorted(self._all)])

    def _found(
        self, definition: SagaDefinition[Any, Any] | None, name: str, version: int
    ) -> SagaDefinition[Any, Any] | None:
        if definition is None and (name, version) not in self._missing:
            self._say_missing(name, version)
        return definition

    def _say_missing(self, name: str, version: int) -> None:
        self._missing.add((name, version))
        has = ", ".join(f"{one} (version {number})" for one, number in sorted(self._all)) or "none"
        logger.warning(
            "namespace %s: the definition %r%s is missing in this coordinator (%s), which runs: %s. Its sagas on this "
            "coordinator's shards wait with attention; run all coordinators of a namespace with the same modules",
            self._namespace, name, f" (version {version})" if version else "", self.identity, has,
        )  # fmt: skip

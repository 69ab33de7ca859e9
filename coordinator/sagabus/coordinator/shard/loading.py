"""Sagas back into memory: rows and histories in one query each for all that a turn needs, then their replays."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sagabus.contracts.commands import Addresses
from sagabus.contracts.envelope import source_of, unpack_headers
from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.concern import read_concerns
from sagabus.coordinator.core.saga.history import Row
from sagabus.coordinator.core.saga.replay import restore
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.core.saga.standing import Standing
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.definition import SagaDefinition
from sagabus.coordinator.store.read import Reads
from sagabus.coordinator.store.rows import SagaKey, SagaRow
from sagabus.messaging.postgres.database import Connection

logger = logging.getLogger(__name__)


class Definitions:
    """The definitions that this coordinator has. Of a name the highest version serves new sagas."""

    def __init__(self, definitions: Iterable[SagaDefinition[Any, Any]]) -> None:
        self._all: dict[tuple[str, int], SagaDefinition[Any, Any]] = {}
        self._newest: dict[str, SagaDefinition[Any, Any]] = {}
        for definition in sorted(definitions, key=lambda each: each.version):
            self._all[definition.name, definition.version] = self._newest[definition.name] = definition
            logger.debug("%r is %s", definition, definition.fingerprint)  # its source is read now, as it was imported

    def newest(self, name: str) -> SagaDefinition[Any, Any] | None:
        return self._newest.get(name)

    def of(self, name: str, version: int) -> SagaDefinition[Any, Any] | None:
        """The version under which a saga was started; version 0 waits for its definition and takes the newest."""
        return self._newest.get(name) if version == 0 else self._all.get((name, version))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Reads sagas of any shard; `now` in microseconds since 1970.

    spun: sagas whose code would not come to rest. The code of this process is the same tomorrow, and to try it again
    with each input that is kept for such a saga would stop all others for seconds (L10).
    """

    namespace: str
    reads: Reads
    definitions: Definitions
    spun: set[SagaKey] = field(default_factory=set)

    async def by_id(self, connection: Connection, ids: Sequence[SagaId], *, now: int) -> dict[SagaId, Saga]:
        """The open saga of each id, else the one that was last; ids that never were are left out."""
        rows = await self.reads.sagas(connection, ids)
        return {saga.state.id: saga for saga in await self._restored(connection, list(rows.values()), now)}

    async def by_key(self, connection: Connection, keys: Sequence[SagaKey], *, now: int) -> dict[SagaKey, Saga]:
        """Certain runs."""
        rows = await self.reads.runs(connection, keys)
        sagas = await self._restored(connection, list(rows.values()), now)
        return {SagaKey(saga.state.id, saga.state.run): saga for saga in sagas}

    async def _restored(self, connection: Connection, rows: Sequence[SagaRow], now: int) -> list[Saga]:
        if not rows:
            return []
        histories: Mapping[SagaKey, list[Row]] = await self.reads.histories(connection, [row.key for row in rows])
        return [self._restore(row, histories[row.key], now) for row in rows]

    def _restore(self, row: SagaRow, history: Sequence[Row], now: int) -> Saga:
        code = self.definitions.of(row.definition, row.version)
        state = self.state(
            row.id, row.run, row.shard, definition=row.definition, version=code.version if code else row.version,
            trace=row.trace,
        )  # fmt: skip
        state.input_hash = row.input_hash
        concerns = read_concerns(None, attention=row.attention)
        status = SagaStatus(row.status)
        state.standing = Standing(status, row.closed_at, concerns, row.result, row.error, row.fingerprint)
        again = row.key not in self.spun
        saga = restore(state, code, history, status=status, now=now, again=again)
        if saga.state.spun:
            self.spun.add(row.key)
        return saga

    def state(
        self, id: SagaId, run: RunId, shard: int, *, definition: str, version: int, trace: bytes = b""
    ) -> SagaState:
        addresses = Addresses(self.namespace, source_of(self.namespace), id, run, shard)
        return SagaState(addresses, definition=definition, version=version, trace=unpack_headers(trace))

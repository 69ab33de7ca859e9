"""From the store's rows to sagas in memory: what their replays begin with."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sagabus.contracts import declared
from sagabus.contracts.commands import Addresses
from sagabus.contracts.envelope import Headers, source_of, unpack_headers
from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.concern import ConcernKind, read_concerns
from sagabus.coordinator.core.saga.events import read_events
from sagabus.coordinator.core.saga.history import Input, Row
from sagabus.coordinator.core.saga.replay import Replay
from sagabus.coordinator.core.saga.standing import Standing
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.core.saga.stopped import Stop, StoppedSaga
from sagabus.coordinator.shard.definitions import Definitions
from sagabus.coordinator.store.read import Reads
from sagabus.coordinator.store.rows import SagaKey, SagaRow

logger = logging.getLogger(__name__)

_source_of = lru_cache(source_of)
"""One object for all sagas of a namespace."""


SAMPLES: Final = 200
"""Open sagas of a shard that are replayed after an acquisition even if they are at rest, by whole pages: where code
does something else than histories say, which its fingerprint need not show, somebody hears of it soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayLimits:
    """How much is replayed at a time. docs/decisions/0006 says why two kinds."""

    short_history: int = 200
    """Rows. A saga with fewer is replayed within the turn that needs it: some ten milliseconds at most."""
    rows_within_turn: int = 5_000
    """Of all sagas of a turn; about a quarter of a second. Who comes after that is replayed behind turns."""
    seconds_behind_turn: float = 0.05
    """Of replaying behind each turn, for which the next turn waits."""
    rows_behind_turn: int = 2_000
    """The same, whatever the clock says."""
    page: int = 1_000
    """Rows of one history that are read at a time."""
    portion: int = 20
    """Rows that are replayed without a look at the clock: about a millisecond."""
    samples: int = SAMPLES


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Makes sagas of any shard."""

    namespace: str
    reads: Reads
    definitions: Definitions
    limits: ReplayLimits = ReplayLimits()

    def with_history(
        self, rows: Iterable[SagaRow], histories: Mapping[SagaKey, Sequence[Row]]
    ) -> dict[SagaKey, SagaRow]:
        """Those that can be replayed. The others, whose history somebody has deleted, stop nobody but themselves."""
        found: dict[SagaKey, SagaRow] = {}
        for row in rows:
            if histories[row.key]:
                found[row.key] = row
            else:
                logger.error(
                    "saga %s (run %s) has a row and no history: restore its rows of `history`, or delete the row",
                    row.id, row.run,
                )  # fmt: skip
        return found

    def replay(self, row: SagaRow, history: Sequence[Row], *, now: int) -> Replay:
        """The whole history of this saga, to be gone through in portions. now: microseconds since 1970."""
        code = self.definitions.of(row.definition, row.version)
        state = self._stored(row, version=code.version if code else row.version)
        status = SagaStatus(row.status)
        return Replay(state, code, history, status=status, now=now, contracts=declared.activities)

    def denial(self, row: SagaRow, of_step: Sequence[Row], reply: Input) -> str | None:
        """Of a reply to a closed saga: None if it is news, else the reason code. of_step: the rows of its step."""
        state = self._stored(row, version=row.version)
        return StoppedSaga(state, Stop(ConcernKind.BLOCKED, ""), of_step, fingerprint="").denial(reply)

    def _stored(self, row: SagaRow, *, version: int) -> SagaState:
        """As it stands, without any step."""
        trace = unpack_headers(row.trace)
        state = self.state(row.id, row.run, row.shard, definition=row.definition, version=version, trace=trace)
        state.input_hash = row.input_hash
        concerns = read_concerns(row.concerns, attention=row.attention)
        status = SagaStatus(row.status)
        state.standing = Standing(
            concerns, status, row.closed_at, row.result, row.error, row.fingerprint, row.paused,
            read_events(row.events), row.attributes,
        )  # fmt: skip
        return state

    def state(
        self, id: SagaId, run: RunId, shard: int, *, definition: str, version: int, trace: Headers = ()
    ) -> SagaState:
        addresses = Addresses(self.namespace, _source_of(self.namespace), id, run, shard)
        return SagaState(addresses, definition=definition, version=version, trace=trace)

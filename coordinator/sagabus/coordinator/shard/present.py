"""The sagas that one turn may need, as far as they are there: in memory, as a row alone, or on their way back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.shard.memory import ShardMemory
from sagabus.coordinator.store.rows import SagaKey, SagaRow, StartedId


@dataclass(slots=True)
class Present:
    """Of one turn. Of an id it is the current run, which is open, or was last."""

    by_id: dict[SagaId, Saga] = field(default_factory=dict)
    other_runs: dict[SagaKey, Saga] = field(default_factory=dict)
    """Sagas that are not the current run of their id."""
    rows: dict[SagaId, SagaRow] = field(default_factory=dict)
    """Sagas that were looked for in the store. To a copy of a start the row says enough."""
    removed: dict[SagaId, StartedId] = field(default_factory=dict)
    """Ids whose sagas retention has removed (H2)."""
    denied: dict[int, str] = field(default_factory=dict)
    """Replies to closed sagas that the rows of their step explain, by `id(input)`, and the reason of each."""

    def know(self, saga: Saga) -> None:
        """As the current run of its id."""
        id = saga.state.id
        before = self.by_id.get(id)
        if before is not None and before is not saga:
            self.know_run(before)
        self.by_id[id] = saga

    def know_run(self, saga: Saga) -> None:
        self.other_runs[SagaKey(saga.state.id, saga.state.run)] = saga

    def forget(self, ids: Iterable[SagaId]) -> None:
        """Their sagas were begun in vain."""
        for id in ids:
            self.by_id.pop(id, None)

    def run(self, id: SagaId) -> RunId | None:
        """The current one of this id; None where no saga of it is known."""
        if (row := self.rows.get(id)) is not None:
            return row.run
        saga = self.by_id.get(id)
        return None if saga is None else saga.state.run

    def find(self, id: SagaId, run: RunId | None) -> Saga | None:
        """run: None means the current one."""
        saga = self.by_id.get(id)
        if run is None or (saga is not None and saga.state.run == run):
            return saga
        return self.other_runs.get(SagaKey(id, run))

    def input_hash(self, memory: ShardMemory, id: SagaId) -> bytes | None:
        """Of what the saga of this id was started with; None where there is no such saga."""
        if (saga := self.by_id.get(id)) is not None:
            return saga.state.input_hash
        row = self.rows.get(id)
        if row is None and (under_way := memory.replays.of(id)) is not None:
            row = under_way.row
        return None if row is None else row.input_hash

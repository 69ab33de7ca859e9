"""The coordinator's tables: what is written of sagas in a turn, and what is read of them. All SQL of this side is here.

    rows        what stands in the tables, as values
    tables      the tables; `migrations` makes them
    write       Store.write: all that a turn has decided, in its transaction
    small_turn  the same and the shards' rows by one statement, where it is little
    read        Reads: what the shell needs, by ids and by shard
    operators   OperatorReads: single sagas, for people; with saga_list their lists, and recent what they wait for

It decides nothing, and holds no connection and no state.
"""

from sagabus.coordinator.store.read import Reads
from sagabus.coordinator.store.rows import EarlyRef, EarlyRequest, SagaKey, SagaRow, StartedId, TimerRef, TimerRow
from sagabus.coordinator.store.tables import coordinator_tables
from sagabus.coordinator.store.write import Encoded, SagaExists, SagaMissing, Store, Writes

__all__ = [
    "EarlyRef",
    "EarlyRequest",
    "Encoded",
    "Reads",
    "SagaExists",
    "SagaKey",
    "SagaMissing",
    "SagaRow",
    "StartedId",
    "Store",
    "TimerRef",
    "TimerRow",
    "Writes",
    "coordinator_tables",
]
